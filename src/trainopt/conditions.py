"""The step-size conditions under which the theory holds, as functions to call on a run.

The estimate learns only while the residual shrinks when the variables are updated. For Full-TO

    e' = (1 − β − α‖w‖²) e                                                (post-update factor)

so |1 − β − α‖w‖²| < 1 is what a step needs; for Diagonal-TO it is one such factor per coordinate,
with α wᵢ². `residual_factors` reads it off an optimizer.

Over a whole run the paper asks for more (the readings are ours, see docs/method.md):

    Proposition 3.2   bounded iterates:  γ_t < 2/L, L the smoothness of F    `iterates_bounded`
    Proposition 3.3   bounded variables: Σ α_t < 1/D², D ≥ ‖w_t‖            `variables_bounded`

Both are sufficient, not necessary: a run may do well without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .optim.factors import residual_factors
from .schedules import Schedule
from .settings import rate_at

__all__ = [
    "Condition",
    "iterates_bounded",
    "residual_factors",
    "schedule_values",
    "variables_bounded",
]


class Condition(NamedTuple):
    """Whether a condition is met.

    `margin` is how much room is left, in the unit of `value` and `bound`: negative when it isn't
    met.
    """

    met: bool
    margin: float
    value: float
    bound: float


def iterates_bounded(lr: Iterable[float], smoothness: float) -> Condition:
    """Proposition 3.2: γ_t < 2/L, so that a step along the gradient never grows.

    Args:
        lr: γ_t of the run's steps.
        smoothness: L, the largest eigenvalue of the Hessian that the run meets.

    Raises:
        ValueError: `smoothness` isn't positive, or there is no step.
    """
    if not smoothness > 0:
        raise ValueError(f"smoothness={smoothness} is not allowed: give a number > 0.")
    rates = list(lr)
    if not rates:
        raise ValueError("lr has no rates: give γ_t for at least one step.")
    return _below(max(rates), 2 / smoothness)


def variables_bounded(alpha: Iterable[float], radius: float) -> Condition:
    """Proposition 3.3: Σ α_t < 1/D², so that A and b stay bounded.

    Args:
        alpha: α_t of the run's steps.
        radius: D, a bound on ‖w_t‖.

    Raises:
        ValueError: `radius` isn't positive.
    """
    if not radius > 0:
        raise ValueError(f"radius={radius} is not allowed: give a number > 0.")
    return _below(sum(alpha), radius**-2)


def schedule_values(rate: float | Schedule, steps: int) -> list[float]:
    """The values of a rate at the steps 0, 1, …, steps − 1, for the functions above."""
    return [float(rate_at(rate, float(t))) for t in range(steps)]


def _below(value: float, bound: float) -> Condition:
    return Condition(value < bound, bound - value, value, bound)
