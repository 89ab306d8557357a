"""A table that grows piece by piece, so that an interrupted command goes on after the last one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from trainopt.harness.folder import write_whole


class Growing:
    """A Parquet table to which finished pieces of work are added, each written at once.

    Args:
        path: of the file; what it holds is read.
        key: columns that say which piece of work a row is of.

    Attributes:
        rows: all rows so far.
        there: the keys of the pieces that were there at the start.
    """

    def __init__(self, path: Path, key: Sequence[str]) -> None:
        self.path = path
        self.rows = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=list(key))
        self.there = set(self.rows[list(key)].itertuples(index=False, name=None))

    def add(self, new: pd.DataFrame) -> None:
        """Add the rows of a piece of work, and write the table; nothing where there are none."""
        if new.empty:
            return
        pieces = [new] if self.rows.empty else [self.rows, new]
        self.rows = pd.concat(pieces, ignore_index=True)
        write_whole(self.path, self.rows.to_parquet(index=False, compression="zstd"))
