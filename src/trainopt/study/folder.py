"""A study's folder of results, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.bench.errors import InputError
from trainopt.bench.folder import read_manifest


def read_folder(
    folder: Path, names: Sequence[str], digest: str, command: str
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Read run.json and the Parquet tables of these names.

    Args:
        folder: of the results.
        names: of the tables.
        digest: of the protocol that must have made them.
        command: that makes them, for the sentence.

    Raises:
        InputError: something is missing, or it is of another protocol.
    """
    manifest = read_manifest(folder) or {}
    try:
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    except OSError as error:
        raise InputError(
            f"{folder} doesn't hold what `{command}` writes ({error}): run it with this folder as "
            "--out first."
        ) from error
    if manifest.get("protocol") != digest:
        raise InputError(f"{folder} is of another protocol: give that one with --protocol.")
    return manifest, tables
