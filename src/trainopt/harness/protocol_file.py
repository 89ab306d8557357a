"""A protocol file: a TOML file that is read whole, or refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from trainopt.errors import InputError

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
def protocol_table(path: Path | None, name: str) -> Iterator[dict[str, Any]]:
    """The file's table; what is missing from it or misshapen, within the block, becomes a sentence.

    Args:
        path: the file; None reads the committed protocol, which is a part of the package.
        name: of the committed protocol, which has all keys.

    Raises:
        InputError: there is no such file, it isn't TOML, or it lacks something.
    """
    committed = resources.files("trainopt") / "protocols" / f"{name}.toml"
    source = committed if path is None else path
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"There is no protocol {source}: leave out --protocol for the committed one."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source} isn't TOML ({error}): correct that line.") from error
    try:
        yield table
    except KeyError as error:
        raise InputError(f"{source} lacks {error}: add it, as in {committed}.") from error
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{source} can't be read as a protocol ({error}): compare it with {committed}."
        ) from error
