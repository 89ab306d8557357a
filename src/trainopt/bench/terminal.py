"""What every command does: print a table in full width, and bad input as its sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from trainopt.bench.errors import InputError


@contextmanager
def sentences() -> Iterator[None]:
    """Print one sentence and exit with code 2 for an `InputError`, or a file that can't be used."""
    try:
        yield
    except InputError as error:
        sentence = str(error)
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


def show(table: Table) -> None:
    """Print a table in its full width, so that a narrow terminal or a pipe cuts nothing off."""
    console = Console()
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
