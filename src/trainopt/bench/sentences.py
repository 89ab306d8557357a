"""Bad input at the command line: its sentence on stderr, and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from trainopt.bench.errors import InputError


@contextmanager
def sentences() -> Iterator[None]:
    """Print the sentence of an `InputError` and exit with code 2."""
    try:
        yield
    except InputError as error:
        print(f"trainopt: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
