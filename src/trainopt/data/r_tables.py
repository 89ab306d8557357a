"""Tables and texts out of R packages: .rda files, and the database of an installed package."""

from __future__ import annotations

import bz2
import lzma
import warnings
import zlib
from typing import Any

import pandas as pd
import rdata


def rda_table(content: bytes, name: str) -> pd.DataFrame:
    """The data frame `name` of an .rda file."""
    table: pd.DataFrame = _converted(content)[name]
    return table


def lazy_table(index: bytes, database: bytes, name: str) -> pd.DataFrame:
    """The data frame `name` of a lazy-load database; see `lazy_object`."""
    table: pd.DataFrame = lazy_object(index, database, name)
    return table


def lazy_object(index: bytes, database: bytes, name: str) -> Any:
    """The object `name` of a lazy-load database: a data frame, or an array for an R vector.

    The index maps names to the place of a block in the database: offset and length. A block is its
    uncompressed size in 4 bytes, and R's serialisation, compressed.

    Args:
        index: the content of the .rdx file.
        database: the content of the .rdb file.
        name: a name in the index.
    """
    offset, length = _converted(index)["variables"][name]
    return _converted(_decompressed(database[int(offset) + 4 : int(offset + length)]))


def _decompressed(block: bytes) -> bytes:
    """A zlib stream, or one byte for the kind and then a bzip2 or a bare LZMA2 stream."""
    kind, rest = block[:1], block[1:]
    if kind == b"2":
        return bz2.decompress(rest)
    if kind == b"Z":
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME}]
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(rest)
    return zlib.decompress(block)


def _converted(content: bytes) -> Any:
    with warnings.catch_warnings():
        # A block of a database has no header, and tibbles have a class that rdata doesn't know.
        warnings.filterwarnings("ignore", "Unknown file type|Missing constructor", UserWarning)
        # Files older than R 3.5 don't say their encoding; all names in ours are ASCII.
        return rdata.conversion.convert(rdata.parser.parse_data(content), default_encoding="ASCII")
