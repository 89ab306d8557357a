"""Kernel locks: held by a living process only, so that no killed one ever blocks another."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from trainopt.errors import InputError

LOCK = ".lock"
HOLDER = ".lock.holder"
UNFINISHED = re.compile(r"\..*\.(\d+)\.tmp")
"""The names of files that `write_whole` is at; the number is the process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; it is made where there is none.

    What killed processes left half-written in it is removed. The file `.lock` stays: processes
    that remove it could lock two different files of that name.

    Args:
        folder: of the results.

    Raises:
        InputError: another process, or another thread of this one, holds the folder.
        OSError: it can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder} is used by {_holder(folder)}: wait until it ends, or give another folder "
            "with --out."
        ) from None
    try:
        (folder / HOLDER).write_text(f"{os.getpid()} {socket.gethostname()}")
        for file in folder.iterdir():
            found = UNFINISHED.fullmatch(file.name)
            if found is not None and not alive(int(found[1])):
                file.unlink(missing_ok=True)
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


class JournalLock:
    """What Optuna locks a journal with, as a kernel lock.

    Its own locks are files that a killed process leaves behind: the next one waits for 30 seconds,
    and takes the lock of a living one away that needs longer.

    Args:
        path: of the journal.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        """Wait for the lock; then cut off the part of a line that a killed writer left."""
        self._lock.acquire(poll_interval=0.01)
        try:
            _end_with_a_line(self._path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def alive(pid: int) -> bool:
    """Whether a process of this machine runs; True where that can't be told."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _holder(folder: Path) -> str:
    with suppress(OSError, ValueError):
        pid, host = (folder / HOLDER).read_text().split()
        return f"process {pid}" + ("" if host == socket.gethostname() else f" of {host}")
    return "another process"


def _end_with_a_line(path: str) -> None:
    """Cut off what follows the last line break: a reader stops for ever at half a line."""
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        kept = end
        while kept > 0:
            start = max(0, kept - 65536)
            file.seek(start)
            at = file.read(kept - start).rfind(b"\n")
            if at >= 0:
                kept = start + at + 1
                break
            kept = start
        if kept < end:
            file.truncate(kept)
