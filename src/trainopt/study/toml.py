"""A protocol file: a TOML file that is read whole, or refused with a sentence."""

from __future__ import annotations

import hashlib
import json
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


def digest_of(table: dict[str, Any], *more: Any, quick: bool) -> str:
    """SHA-256 in hex of all that decides a number.

    Args:
        table: of the protocol; its part [quick] counts only for the quick version.
        more: what else decides.
        quick: whether it is the quick version.
    """
    parts = {name: part for name, part in table.items() if quick or name != "quick"}
    described = json.dumps([parts, *more, quick], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


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
