"""How every command prints tables, sentences, and what a user can put right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainopt.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from trainopt.harness.markdown import Cells
    from trainopt.harness.page import Report


@contextmanager
def sentences() -> Iterator[None]:
    """Print one sentence and exit with code 2 for an `InputError`, and for what surroundings lack.

    That is a file that can't be used, memory, or a package that an extra installs.
    """
    try:
        yield
    except InputError as error:
        sentence = str(error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("trainopt"):
            raise
        sentence = f"This needs {error.name}, which is missing: pip install 'trainopt[bench]'."
    except MemoryError as error:
        reason = " ".join(str(error).split()) or "no more can be had"
        sentence = f"The memory of this machine is too small for this ({reason})."
    except BrokenPipeError:
        raise  # nobody reads what is printed: no fault, and typer ends quietly
    except OSError as error:
        if error.filename is None:
            sentence = f"{error.strerror or error}."
        else:
            sentence = f"{error.filename} can't be read or written: {error.strerror}."
    else:
        return
    print(f"trainopt: {sentence}", file=sys.stderr)
    sys.exit(2)


def show(cells: Cells, title: str = "") -> None:
    """Print a table; a terminal too narrow for it gets some of the columns at a time.

    A pipe gets all of them side by side.
    """
    from rich.console import Console

    console = Console()
    width = console.width if console.is_terminal else sys.maxsize
    for part in columns_within(cells, width):
        table = rich_table(part, title)
        console.width = max(console.width, Console(width=1000).measure(table).maximum)
        console.print(table)


def columns_within(cells: Cells, width: int) -> list[Cells]:
    """The table in parts that are no wider, each with the first column, unless one is too wide."""
    columns, rows = cells
    wide = [2 + max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    parts: list[list[int]] = [[0]]
    for i in range(1, len(columns)):
        if len(parts[-1]) > 1 and sum(wide[j] for j in parts[-1]) + wide[i] > width:
            parts.append([0])
        parts[-1].append(i)
    return [
        ([columns[i] for i in part], [[row[i] for i in part] for row in rows]) for part in parts
    ]


def rich_table(cells: Cells, title: str = "") -> Table:
    """The table as rich prints it: numbers to the right."""
    from rich.table import Table

    columns, rows = cells
    table = Table(box=None, padding=(0, 1), title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def show_report(report: Report, folder: Path) -> None:
    """Print the first tables of a report, its verdict, and where the page is."""
    for title, cells in report.sections[0].tables.items():
        show(cells, title)
    say("\n" + "\n".join(report.verdict) + f"\nReport: {folder / 'report.html'}")


def say(text: str) -> None:
    """Print sentences as wide as the terminal, broken between words; a pipe gets whole lines."""
    from rich.console import Console

    console = Console()
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
