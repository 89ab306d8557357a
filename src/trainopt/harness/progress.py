"""Progress in expected seconds, so that the time left is right from the start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """A bar on stderr, or a line for each finished part where there is no terminal.

    A context manager.

    Args:
        total: expected seconds of work.
        show: draw it; otherwise nothing is printed.
    """

    def __init__(self, total: float, show: bool) -> None:
        console = Console(stderr=True)
        self._lines = show and not console.is_terminal
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=console,
            disable=not (show and console.is_terminal),
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("", total=total)

    def describe(self, text: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=f"{text:28}")

    def finished(self, text: str) -> None:
        """Say that a part is finished, where no bar shows it."""
        if self._lines:
            share = self._bar.tasks[0].percentage
            print(f"{share:3.0f} %  {text}", file=sys.stderr, flush=True)

    def counter(self, cost: float) -> Callable[[int], None]:
        """Return a function that counts pieces of work expected to take `cost` seconds each."""
        return lambda pieces: self._bar.advance(self._task, cost * pieces)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
