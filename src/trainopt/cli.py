"""The `trainopt` command: what a user can put right is one sentence, and a signal ends it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from trainopt.bench.errors import InputError
from trainopt.stopping import stoppable


def main() -> None:
    """Run the command line; exit with code 2 and one sentence for what a user can put right."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # "?" where the terminal's encoding has no α
    with stoppable(), sentences():
        from trainopt.commands import app

        app(prog_name="trainopt")


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
        if (error.name or "").startswith("trainopt"):
            raise
        sentence = f"this needs {error.name}, which is missing: pip install 'trainopt[bench]'."
    except MemoryError as error:
        sentence = f"the memory of this machine is too small ({error or 'no more is free'})."
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
