"""The one exception that tells a user what to correct."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from the user: one sentence that names what was given, why not, and what to do.

    The command line prints it and exits with code 2; no result has been written.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The start of a hint, "did you mean …? ", or nothing when no known name is close."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? " if close else ""


def refuse(options: Mapping[str, object], why: str) -> None:
    """Raise for the first option that was given a value."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{why} {name}.")
