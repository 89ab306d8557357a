"""Files kept between runs, compiled kernels and data, in a folder that only their user writes to.

The name of a kept file ends in the hash of its content. So a file cut short by a full disk or lost
power is noticed before anybody reads or loads it, and is made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOUR = 3600.0


def cache() -> Path:
    """The folder $TRAINOPT_CACHE, else trainopt in the user's cache; made when it isn't there.

    Folders that this makes are their user's alone (mode 0700).

    Raises:
        OSError: there is no home folder, the folder can't be made, or others can write to it; the
            message says so.
    """
    folder = _chosen()
    for part in (*reversed(folder.parents), folder):
        part.mkdir(mode=0o700, exist_ok=True)
    if reason := _shared(folder):
        raise PermissionError(f"{folder} {reason}: set TRAINOPT_CACHE to a folder of your own")
    return folder


def kept(stem: str, suffix: str) -> Iterator[Path]:
    """The intact files that `keep` left under this name; others are removed where that can be done.

    Args:
        stem: the start of the name; a `*` stands for anything.
        suffix: the end, with the dot.

    Raises:
        OSError: as `cache`.
    """
    for path in sorted(cache().glob(f"{stem}-*{suffix}")):
        with suppress(OSError):
            content = path.read_bytes()
            if path.name.endswith(f"-{_digest(content)}{suffix}") and not _shared(path):
                yield path
            else:
                path.unlink()


def keep(content: bytes, stem: str, suffix: str) -> Path:
    """Write a file for `kept` to find, and return its path; several processes may do so at once.

    Raises:
        OSError: as `cache`, or it can't be written.
    """
    path = cache() / f"{stem}-{_digest(content)}{suffix}"
    write(path, content)
    return path


def write(path: Path, content: bytes) -> None:
    """Write a file of the cache that is there whole or not at all.

    Everybody may read it whom the folder lets in: an image may be built by one user and run by
    another.

    Raises:
        OSError: it can't be written.
    """
    with unfinished() as folder:
        beside = folder / path.name
        beside.write_bytes(content)
        beside.chmod(0o644)
        beside.replace(path)


@contextmanager
def unfinished() -> Iterator[Path]:
    """A folder in the cache for work under way. One that a killed process left is removed later.

    Raises:
        OSError: as `cache`, or it can't be made.
    """
    for left in cache().glob("unfinished-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _HOUR:
                shutil.rmtree(left)
    # No TemporaryDirectory: a forked child that ends would remove its parent's.
    folder = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _chosen() -> Path:
    try:
        if chosen := os.environ.get("TRAINOPT_CACHE"):
            return Path(chosen).expanduser().absolute()
        common = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG Base Directory Specification: "consider the path invalid and ignore it".
        return (common if common.is_absolute() else Path.home().absolute() / ".cache") / "trainopt"
    except RuntimeError:
        raise FileNotFoundError(
            "there is no home folder to keep files in: set TRAINOPT_CACHE to a folder of your own"
        ) from None


def _shared(path: Path) -> str:
    """Why others than its user and root may have written to a file or folder; "" if none could."""
    found = path.stat()
    if os.name == "posix" and found.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (number {found.st_uid})"
    if os.name == "posix" and found.st_mode & 0o022:
        return "can be written to by other users"
    return ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
