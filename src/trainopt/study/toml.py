"""A protocol file: a TOML file that is read whole, or refused with a sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainopt.bench.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@contextmanager
def protocol_table(path: Path, example: str) -> Iterator[dict[str, Any]]:
    """The file's table; a key that is missing from it, within the block, becomes a sentence.

    Args:
        path: the file.
        example: a protocol that has all keys.

    Raises:
        InputError: there is no such file, it isn't TOML, or it lacks something.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"There is no protocol {path}: run this in a clone of trainopt, or give one with "
            "--protocol."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} isn't TOML ({error}): mend that line.") from error
    try:
        yield table
    except KeyError as error:
        raise InputError(f"{path} lacks {error}: add it, as in {example}.") from error
