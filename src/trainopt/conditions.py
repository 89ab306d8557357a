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
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .optim.base import TrainableOptimizer
from .optim.diagonal import DiagonalTO
from .optim.rank_one import RankOneTO
from .schedules import Schedule
from .settings import rate_at


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


@torch.no_grad()
def residual_factors(optimizer: TrainableOptimizer) -> dict[Tensor, float]:
    """The largest |factor| by which the next step at the present weights multiplies the residual.

    Below 1 the residual shrinks and the variables stay bounded; 1 or more for long, and they grow
    until the run diverges: lower alpha, or keep ‖w‖ small. Full-TO: |1 − β − α‖w‖²|. Diagonal-TO:
    the worst over coordinates of |1 − β − α wᵢ²|. RankOne-TO: the larger of |1 − β − α s²| and
    |1 − β − α s² − α‖w‖²‖a‖²|, s = cᵀw, to first order in α.

    Args:
        optimizer: one of the variants, before or after any step. Rates are those of its clock.
            RankOneTO has no s before its first step, and |1 − β| stands for its factor.

    Returns:
        One number for each parameter that a step moves: those with a gradient, or, while there is
        none, those with state, or, before the first step, those that require a gradient. The same
        number for all parameters of a group whose scope is "group". Tensors without numbers have
        none. Time O(d). With sharded parameters (DTensor) every process must call it.
    """
    factors: dict[Tensor, float] = {}
    moved = moved_params(optimizer)
    for group in optimizer.param_groups:
        t = float(group["step"])
        alpha, beta = (float(rate_at(group[name], t)) for name in ("alpha", "beta"))
        for piece in vectors_of(group, moved):
            found = [alpha * x for x in _shrinkage(optimizer, piece)]
            factors |= dict.fromkeys(piece, max(abs(1 - beta - x) for x in found))
    return factors


def moved_params(optimizer: TrainableOptimizer) -> set[Tensor]:
    """The parameters that a step moves, as `residual_factors` takes them; none is empty."""
    state = optimizer.state
    params = [p for group in optimizer.param_groups for p in group["params"] if p.numel()]
    for moves in (
        lambda p: p.grad is not None,
        lambda p: bool(state.get(p)),
        lambda p: p.requires_grad,
    ):
        if found := set(filter(moves, params)):
            return found
    return set(params)


def vectors_of(group: dict[str, Any], params: set[Tensor]) -> list[list[Tensor]]:
    """Those of the group's tensors that are in `params`, as the vectors w that each have an A."""
    found = [p for p in group["params"] if p in params]
    return [found] if found and group.get("scope") == "group" else [[p] for p in found]


def gathered(x: Tensor) -> Tensor:
    """A DTensor as what all processes hold together, which must all call it; else `x`."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def square(x: Tensor) -> float:
    """‖x‖² in float64."""
    wide = torch.promote_types(x.dtype, torch.float64)
    return float(gathered(torch.linalg.vector_norm(x.detach(), dtype=wide))) ** 2


def dot(x: Tensor, y: Tensor) -> float:
    """xᵀy in float64, of complex tensors as of pairs of reals."""
    x, y = (torch.view_as_real(z) if z.is_complex() else z for z in (x.detach(), y.detach()))
    return float(gathered((x.double() * y.double()).sum()))


def _shrinkage(optimizer: TrainableOptimizer, params: list[Tensor]) -> list[float]:
    """What α is multiplied with in 1 − β − α (…): the extreme values."""
    if isinstance(optimizer, DiagonalTO):
        (p,) = params
        w = gathered(p.detach())  # a process may hold none of it, which has no minimum
        squares = (torch.view_as_real(w) if w.is_complex() else w).double().square()
        return [float(squares.min()), float(squares.max())]
    norm = sum(map(square, params))
    if not isinstance(optimizer, RankOneTO):
        return [norm]
    states = [(p, optimizer.state[p]) for p in params if optimizer.state.get(p)]
    s = sum(dot(state["c"], p) for p, state in states)
    return [s**2, s**2 + norm * sum(square(state["a"]) for _, state in states)]


def _below(value: float, bound: float) -> Condition:
    return Condition(value < bound, bound - value, value, bound)
