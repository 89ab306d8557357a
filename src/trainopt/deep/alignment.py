"""How well a direction estimates the full gradient: relative error and cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def alignment(estimate: Sequence[Tensor], gradient: Sequence[Tensor]) -> tuple[float, float]:
    """Compare an estimate of the gradient with the gradient, all parameters as one vector.

    Args:
        estimate: Ĝ, one tensor for each parameter.
        gradient: ∇F, likewise.

    Returns:
        ‖Ĝ − ∇F‖²/‖∇F‖² and cos(Ĝ, ∇F); NaN where a norm is 0 or nothing is finite.
    """
    distance = inner = estimates = gradients = 0.0
    for mine, full in zip(estimate, gradient, strict=True):
        x, y = mine.double().flatten(), full.double().flatten()
        distance += (x - y).square().sum().item()
        inner += torch.dot(x, y).item()
        estimates += x.square().sum().item()
        gradients += y.square().sum().item()
    if gradients == 0 or not math.isfinite(distance):
        return math.nan, math.nan
    norms = math.sqrt(estimates * gradients)
    return distance / gradients, inner / norms if norms > 0 else math.nan
