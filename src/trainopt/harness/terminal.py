"""How every command prints tables, sentences, and what a user can put right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainopt.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table


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


def show(table: Table) -> None:
    """Print a table in its full width, so that a narrow terminal or a pipe cuts nothing off."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)


def say(text: str) -> None:
    """Print sentences as wide as the terminal, broken between words; a pipe gets whole lines."""
    from rich.console import Console

    console = Console()
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
