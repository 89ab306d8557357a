"""How every command prints tables and sentences."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def show(table: Table) -> None:
    """Print a table in its full width, so that a narrow terminal or a pipe cuts nothing off."""
    console = Console()
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)


def say(text: str) -> None:
    """Print sentences as wide as the terminal, broken between words."""
    Console().print(text, markup=False, highlight=False, overflow="ignore")
