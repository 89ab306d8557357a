"""The text in a file: read once, unpacked and decoded by what is in it, whatever its name is."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from trainopt.errors import InputError

_PACKED: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", gzip.decompress),
    (b"BZh", "bzip2", bz2.decompress),
    (b"\xfd7zXZ\0", "xz", lzma.decompress),
)
_SAVE = "save its table as CSV in UTF-8"
_UNPACK = "unpack it, and name the file in it"
_OTHER_FORMATS = (
    (b"PAR1\x15", "a Parquet file", _SAVE),
    (b"ARROW1\0", "an Arrow file", _SAVE),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _SAVE),
    (b"\x93NUMPY", "a NumPy array", _SAVE),
    (b"\x89HDF", "an HDF5 file", _SAVE),
    (b"SQLite format 3", "an SQLite database", _SAVE),
    (b"\x80", "a Python pickle", _SAVE),
    (b"RDX2\n", "an R data file", _SAVE),
    (b"RDX3\n", "an R data file", _SAVE),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file", _SAVE),
    (b"%PDF", "a PDF", _SAVE),
    (b"{", "JSON", _SAVE),
    (b"[", "JSON", _SAVE),
    (b"<", "HTML or XML", _SAVE),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"version https://git-lfs", "only a pointer to a file", "fetch that with git lfs pull"),
)
# The one of UTF-32 begins with the one of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Return what a text file says, with one line feed at the end of each line.

    Reads a file or a pipe, once. Unpacks gzip, bzip2, xz, and a zip archive of one file; decodes
    UTF-8, and UTF-16 or UTF-32 that begins with a byte order mark.

    Raises:
        InputError: there is no such file, it can't be read, isn't text, or is empty.
    """
    text = _decoded(path, _unpacked(path, _content(path)))
    if not text.strip():
        raise InputError(f"{path} is empty: at least 10 rows of data are needed.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text, one after another."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def first_lines(text: str) -> list[str]:
    """The first 200 lines, or fewer when they are longer than 1 MB, at least one."""
    end = text.rfind("\n", 0, 2**20) + 1 or text.find("\n") + 1 or len(text)
    return list(islice(lines_of(text[:end]), 200))


def quoted(text: str) -> str:
    """A cell or line as a sentence shows it: in quotation marks, on one line, at most 40 long."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= 40 else f'"{line[:39]}…"'


def _content(path: Path) -> bytes:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        name = str(path).encode(errors="replace").decode()
        raise InputError(f"The name {name} isn't UTF-8: rename the file.") from None
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path.") from None
    except MemoryError:
        raise InputError(f"{path} doesn't fit in memory: take a part of its rows.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} can't be read ({reason}): check its path and rights.") from error
    kind = "a folder" if stat.S_ISDIR(mode) else "neither a file nor a pipe"
    raise InputError(f"{path} is {kind}: name a CSV or LIBSVM file.")


def _unpacked(path: Path, content: bytes) -> bytes:
    for start, name, unpack in _PACKED:
        if content.startswith(start):
            try:
                unpacked = unpack(content)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise InputError(
                    f"{path} is packed by {name} and damaged ({error}): fetch or pack it again."
                ) from error
            return _unpacked(path, unpacked)
    if content.startswith(b"PK\x03\x04"):
        return _unpacked(path, _only_member(path, content))
    return content


def _only_member(path: Path, content: bytes) -> bytes:
    """The one file in a zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [
                name
                for name in archive.namelist()
                if not name.endswith(("/", ".DS_Store")) and not name.startswith("__MACOSX/")
            ]
            if len(names) == 1:
                return archive.read(names[0])
    # A RuntimeError is a password that is needed.
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} is a zip archive that can't be unpacked ({error}): unpack it first."
        ) from error
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise InputError(f"{path} is a workbook of Excel or the like: {_SAVE}.")
    raise InputError(f"{path} is a zip archive of {len(names)} files: unpack it, and name one.")


def _decoded(path: Path, content: bytes) -> str:
    start = content[:4096].lstrip()
    for mark, name, advice in _OTHER_FORMATS:
        if start.startswith(mark):
            raise InputError(f"{path} is {name}: {advice}.")
    if re.search(rb"(?im)^@relation\s", start):
        raise InputError(f"{path} is an ARFF file: {_SAVE}.")
    if content[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive: {_UNPACK}.")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} isn't text in UTF-8 (line {line} has the byte 0x{content[error.start]:02x}): "
            "save it as UTF-8; iconv -f latin1 -t utf-8 does that for most files from Windows."
        ) from error
    if "\0" in text:
        raise InputError(f"{path} is binary, or text in another encoding: save it as UTF-8.")
    return text
