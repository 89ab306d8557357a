"""What every command does: print a table in full width, and bad input as its sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table

from trainopt.bench.errors import InputError


@contextmanager
def sentences() -> Iterator[None]:
    """Print the sentence of an `InputError` and exit with code 2."""
    try:
        yield
    except InputError as error:
        print(f"trainopt: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def show(table: Table) -> None:
    """Print a table in its full width, so that a narrow terminal or a pipe cuts nothing off."""
    console = Console()
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
