"""By how much the next step multiplies the residual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..settings import rate_at
from .reading import ReadVector, moved_params, read_vectors

if TYPE_CHECKING:
    from .estimator import Estimator


@torch.no_grad()
def residual_factors(optimizer: Estimator) -> dict[Tensor, float]:
    """The largest |factor| by which the next step at the present weights multiplies the residual.

    Below 1 the residual shrinks and the variables stay bounded; 1 or more for long, and they grow
    until the run diverges: lower alpha, or keep ‖w‖ small. The factor is |1 − β − α λ| with λ from
    `Form.least_gain` to `Form.gain`. Full-TO: |1 − β − α‖w‖²|. Diagonal-TO: the worst over
    coordinates of |1 − β − α wᵢ²|. RankOne-TO: the larger of |1 − β − α s²| and
    |1 − β − α s² − α‖w‖²‖a‖²|, s = cᵀw, to first order in α. Under the normalised rule α is divided
    by the gain.

    Args:
        optimizer: an `Estimator` or one of the variants, before or after any step. Rates are those
            of its clock. Before the first step, the variables of A are those of a start.

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
        for vector in read_vectors(optimizer, group, moved):
            largest = max(_factor(part, alpha, beta) for part in vector.parts())
            factors |= dict.fromkeys(vector.params, largest)
    return factors


def _factor(vector: ReadVector, alpha: float, beta: float) -> float:
    least, most = vector.gains()
    rate = vector.rate(alpha)
    if rate.ndim:
        least, most, rate = rate * least, rate * most, rate.new_ones(())
    return max(abs(1 - beta - float(rate * end)) for end in (least.min(), most.max()))
