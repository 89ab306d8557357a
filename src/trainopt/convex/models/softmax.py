"""Multinomial logistic regression: one column of weights per class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainopt.convex.models import logistic
from trainopt.convex.models.model import Model, accuracy, needs_classes
from trainopt.data import Features


def _slope(scores: Tensor, y: Tensor) -> Tensor:
    classes = y[..., None].expand(*scores.shape[:-1], 1)
    return scores.softmax(-1).scatter_add(-1, classes, -torch.ones_like(scores[..., :1]))


def _solve(x: Features, y: NDArray[Any], outputs: int, l2: float) -> NDArray[np.float64]:
    if outputs > 2:
        return logistic.solve(x, y, outputs, l2)
    # The two optimal columns are ∓w/2 with w the logistic weights: ‖W‖² = ‖w‖²/2, so l2 halves.
    half = logistic.solve(x, y, 1, l2 / 2) / 2
    return np.hstack([-half, half])


SOFTMAX = Model(
    name="softmax",
    fits=needs_classes,
    outputs=lambda dataset: dataset.classes or 0,
    loss=functional.cross_entropy,
    slope=_slope,
    accuracy=accuracy,
    solve=_solve,
)
