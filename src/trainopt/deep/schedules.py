"""Learning rates over a run of known length, the same ones for every optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable

_END = 0.01  # part of the first rate that is left at the last step

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,
    "cosine": lambda part: _END + (1 - _END) * (1 + math.cos(math.pi * part)) / 2,
    "exponential": lambda part: _END**part,
}
"""By name: from the part of the run that is over, 0 at the first step and 1 at the last, to a
factor of the learning rate."""


def factor(name: str, step: int, steps: int) -> float:
    """The factor at a step 0 … steps − 1."""
    return SCHEDULES[name](step / max(steps - 1, 1))
