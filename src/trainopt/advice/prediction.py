"""How well linear models predict the next gradient from the weights, along a short run."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..forms import Dense, Diagonal, Form, LowRank, RankOne, Zero
from ..learning import Gradient, Normalised
from ..optim import Estimator
from .objective import Objective

FORMS: dict[str, Form] = {
    "none": Zero(),
    "diagonal": Diagonal(),
    "rank one": RankOne(),
    "low rank": LowRank(),
    "full": Dense(),
}
"""The models by name; "none" is A = 0, the moving average that all must beat."""

_GREW = 2.0  # times the first gradient's norm: there the rate is halved, at every step
LARGEST_DENSE = 2000  # weights of a full A: 16 MB in float32


def predictions(objective: Objective, steps: int, lr: float) -> tuple[dict[str, float], float]:
    """Learn every form along gradient descent, and score it on each gradient before it sees it.

    Costs `steps` gradients; the weights end elsewhere.

    Args:
        objective: its batches are read in turn.
        steps: of the run; the first third only learns.
        lr: of the descent.

    Returns:
        The score of each form, 1 − Σ‖g − (A w + b)‖² / Σ‖g‖² (1: exact; 0: as good as no
        prediction); and the part of the first loss that the run took away. NaN where the run
        diverged.
    """
    params = list(objective.params)
    estimators = {
        name: _estimator(params, form)
        for name, form in FORMS.items()
        if name != "full" or objective.weights <= LARGEST_DENSE
    }
    missed = dict.fromkeys(estimators, 0.0)
    total = peak = reference = 0.0
    first = last = objective.loss(objective.batches[0]).item()
    for step in range(steps):
        gradient = objective.gradient(objective.batches[step % len(objective.batches)])
        size = gradient.norm().item()
        if not math.isfinite(size):
            return dict.fromkeys(estimators, math.nan), math.nan
        reference = reference or size
        if size > _GREW * reference:
            lr /= 2
        for p, piece in zip(params, objective.pieces(gradient), strict=True):
            p.grad = piece
        # The normalised rate of a diagonal A is one per weight, and huge where a weight is near 0.
        peak = max(peak, *(p.detach().abs().max().item() for p in params if p.numel()))
        for group in estimators["diagonal"].param_groups:
            group["alpha"] = 0.5 / peak**2 if peak else 0.0
        for name, estimator in estimators.items():
            estimator.learn()
            if step >= steps // 3:
                missed[name] += estimator.residual_norm().item() ** 2
        if step >= steps // 3:
            total += size**2
        objective.move(-lr * gradient)
    last = objective.loss(objective.batches[0]).item()
    scores = {name: 1 - value / max(total, 1e-300) for name, value in missed.items()}
    return scores, (first - last) / max(abs(first), 1e-12)


def _estimator(params: list[Tensor], form: Form) -> Estimator:
    scope = "group" if form.rowwise else "tensor"
    rule = Gradient(beta=Normalised().beta) if isinstance(form, Diagonal) else Normalised()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Estimator(params, form, rule, scope=scope, fused=False, foreach=False)
