"""Tables in Markdown, as the documents have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Cells: TypeAlias = tuple[list[str], list[list[str]]]
"""The columns' names, and the rows."""


def markdown(cells: Cells) -> str:
    """A table in Markdown."""
    columns, rows = cells
    return "\n".join(_line(row) for row in (columns, ["---"] * len(columns), *rows))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
