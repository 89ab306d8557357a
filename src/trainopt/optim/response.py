"""What is done about a step that would spoil a run: `on_instability`."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import Literal, NamedTuple, get_args

Action = Literal["warn", "raise", "skip", "reset"]

REFUSED = 20  # steps in a row that are refused before that is an error


class InstabilityError(RuntimeError):
    """A step that would have spoiled the run was refused; weights and state are those before it."""


class Fault(NamedTuple):
    """A signature of instability.

    Attributes:
        name: "not finite", "growth" or "step size".
        sentence: what was seen, in numbers, and what to do.
    """

    name: str
    sentence: str


class Response:
    """What an optimizer does about faults, and how often it did.

    Attributes:
        action: as chosen.
        events: how often each signature was met, by name.
    """

    def __init__(self, action: Action) -> None:
        if action not in get_args(Action):
            raise ValueError(
                f"on_instability={action!r} is not known: give None, "
                f"{', '.join(map(repr, get_args(Action)))}."
            )
        self.action = action
        self.events: Counter[str] = Counter()
        self._refused = 0

    def taken(self) -> None:
        """A step was taken."""
        self._refused = 0

    def refuse(self, fault: Fault, done: str = "the step was not taken") -> None:
        """Say that a step was refused.

        Args:
            fault: why.
            done: what was done.

        Raises:
            InstabilityError: `action` is "raise", or too many steps in a row were refused.
        """
        self.events[fault.name] += 1
        self._refused += 1
        if self.action == "raise":
            raise InstabilityError(f"{fault.sentence} So {done}.")
        if self.action != "warn" and self._refused >= REFUSED:
            other = "; 'reset' would begin A and b anew" if self.action == "skip" else ""
            raise InstabilityError(
                f"{fault.sentence} So {self._refused} steps in a row were not taken, and "
                f"on_instability={self.action!r} gives up{other}."
            )
        self._warn(f"{fault.sentence} So {done}.", fault)

    def tell(self, fault: Fault) -> None:
        """Say what was seen about a step that is taken all the same."""
        self.events[fault.name] += 1
        self._warn(fault.sentence, fault)

    def _warn(self, sentence: str, fault: Fault) -> None:
        """Warn about the first of each signature."""
        if self.events[fault.name] == 1:
            warnings.warn(sentence, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return how far up the first frame is that is neither ours nor torch's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in ("trainopt", "torch"):
        level, frame = level + 1, frame.f_back
    return level
