"""How a command ends by a signal: the first ends it in order, the second at once.

SIGINT (Ctrl-C) and SIGTERM (Slurm, Kubernetes, `timeout`) do the same. The first becomes an
exception in the main thread, so that files are closed and the terminal is put in order. Nothing
that is finished depends on that: results are written as they are made. So a thread ends the process
when the exception was lost, or something holds the main thread up, after `PATIENCE` seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 5.0
_SHOW_CURSOR = b"\x1b[?25h"


class Stopped(SystemExit):
    """A signal ends this command. `except Exception` and libraries let it through."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block, a signal raises `Stopped` with its exit code, 130 or 143.

    Whatever else is raised after a signal, as by an import that was cut short, becomes `Stopped`,
    too. Processes of `multiprocessing` are ended first. For the main thread.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            raise Stopped(128 + number)

    def unraisable(lost: Any) -> None:
        # Raised in a destructor, where Python can only print it. The thread sees to the end.
        if not isinstance(lost.exc_value, Stopped):
            hook(lost)

    to_thread, from_handler = socket.socketpair()
    from_handler.setblocking(False)
    # A signal that was ignored when this started (nohup, a script's &) stays so.
    caught = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    old = {number: signal.signal(number, stop) for number in caught}
    old_fd = signal.set_wakeup_fd(from_handler.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_end_in_time, args=(to_thread,), daemon=True)
    watch.start()
    try:
        yield
    except BaseException:
        if not received:
            raise
        end(multiprocessing.active_children())
        raise Stopped(128 + received[0]) from None
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in old.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        from_handler.close()
        watch.join()
        to_thread.close()


def _end_in_time(numbers: socket.socket) -> None:
    """Wait for signals' numbers; end the process at the second, or when the first had no effect."""
    first = _received(numbers, None)
    if first is None:
        return
    with suppress(TimeoutError):
        if _received(numbers, time.monotonic() + PATIENCE) is None:
            return
    end(multiprocessing.active_children())
    if sys.stderr is not None and sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os._exit(128 + first)


def _received(numbers: socket.socket, deadline: float | None) -> int | None:
    """The next of our signals; None when no more can come.

    Others come here, too: of children that end, where a library handles that.

    Raises:
        TimeoutError: none came before the deadline.
    """
    while True:
        numbers.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-3))
        number = numbers.recv(1)
        if not number:
            return None
        if number[0] in SIGNALS:
            return number[0]


def end(processes: Iterable[BaseProcess]) -> None:
    """End processes at once, whatever they do."""
    for process in processes:
        process.kill()


@contextmanager
def resumable(place: object) -> Iterator[None]:
    """Say, when a signal ends the block, where results are kept.

    Args:
        place: a folder, or a storage's URL without its password.
    """
    try:
        yield
    except Stopped:
        print(
            f"Stopped. What is finished is kept in {place}; the same command goes on from there.",
            file=sys.stderr,
        )
        raise


@contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back within the block, and for good in processes and threads that it starts.

    Ctrl-C reaches every process in the terminal; the command's main thread alone decides.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    old = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
