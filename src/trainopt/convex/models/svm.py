"""The support vector machine with squared hinge; one against the rest for many classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import LinearSVC
from torch import Tensor

from trainopt.convex.models.model import Model, accuracy, needs_classes
from trainopt.data import Dataset, Features


def _outputs(dataset: Dataset) -> int:
    classes = dataset.classes or 0
    return 1 if classes == 2 else classes


def _sign(scores: Tensor, y: Tensor) -> Tensor:
    """+1 in the column of the row's class, −1 elsewhere; a single column is that of class 1."""
    outputs = scores.shape[-1]
    column_class = torch.arange(outputs) if outputs > 1 else torch.ones(1)
    return torch.where(y[..., None] == column_class, 1.0, -1.0).to(scores.dtype)


def _loss(scores: Tensor, y: Tensor) -> Tensor:
    return (1 - _sign(scores, y) * scores).relu().square().sum(dim=1).mean()


def _slope(scores: Tensor, y: Tensor) -> Tensor:
    sign = _sign(scores, y)
    return -2 * sign * (1 - sign * scores).relu()


def _solve(x: Features, y: NDArray[Any], outputs: int, l2: float) -> NDArray[np.float64]:
    """The minimiser, by liblinear's trust-region Newton method on the primal."""
    svm = LinearSVC(
        C=1 / (l2 * len(y)), fit_intercept=False, dual=False, tol=1e-10, max_iter=10_000
    )
    return np.asarray(svm.fit(x, y).coef_.T)


SVM = Model(
    name="svm",
    fits=needs_classes,
    outputs=_outputs,
    loss=_loss,
    slope=_slope,
    accuracy=accuracy,
    solve=_solve,
)
