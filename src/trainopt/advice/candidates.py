"""What can be recommended: a name, what it is, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FLOAT = 4
_LBFGS_HISTORY = 10


@dataclass(frozen=True)
class Candidate:
    """An optimizer that can be recommended.

    Attributes:
        title: in words.
        state: numbers of state for d weights.
    """

    title: str
    state: Callable[[int], int]


# No rule takes the last ones: they are what the others are compared with.
CANDIDATES: dict[str, Candidate] = {
    "secant": Candidate("SecantTO, K = 8", lambda d: 71 * d),
    "secant-small": Candidate("SecantTO, K = 4", lambda d: 39 * d),
    "lbfgs": Candidate("L-BFGS", lambda d: (2 * _LBFGS_HISTORY + 3) * d),
    "schedulefree-sgd": Candidate("Schedule-free SGD", lambda d: d),
    "schedulefree-adamw": Candidate("Schedule-free AdamW", lambda d: 2 * d),
    "muon": Candidate("Muon, with AdamW for the rest", lambda d: 2 * d),
    "adamw": Candidate("AdamW", lambda d: 2 * d),
    "diagonal": Candidate("Diagonal-TO", lambda d: 2 * d),
    "rankone": Candidate("RankOne-TO", lambda d: 3 * d),
    "full": Candidate("Full-TO", lambda d: d * d + d),
}


def memory(name: str, weights: int) -> int:
    """Bytes of optimizer state in float32."""
    return FLOAT * CANDIDATES[name].state(weights)
