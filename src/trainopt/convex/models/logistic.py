"""Logistic regression for two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from trainopt.convex.models.model import Model, accuracy, needs_classes
from trainopt.data import Dataset, Features


def _fits(dataset: Dataset) -> str | None:
    if dataset.classes is not None and dataset.classes > 2:
        return f"{dataset.name} has {dataset.classes} classes, logistic takes 2: use softmax."
    return needs_classes(dataset)


def _loss(scores: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(scores[:, 0], y.to(scores.dtype))


def _slope(scores: Tensor, y: Tensor) -> Tensor:
    return scores.sigmoid() - y[..., None].to(scores.dtype)


def solve(x: Features, y: NDArray[Any], outputs: int, l2: float) -> NDArray[np.float64]:
    """The minimiser, by Newton's method; multinomial when there are more than two classes.

    Args:
        x: float64 (n, features), dense or CSR.
        y: int64 (n,), the classes.
        outputs: 1 for two classes, else the number of classes.
        l2: the strength of the regularisation.
    """
    newton = LogisticRegression(
        C=1 / (l2 * len(y)), fit_intercept=False, solver="newton-cg", tol=1e-9, max_iter=1000
    )
    return np.asarray(newton.fit(x, y).coef_.T)


LOGISTIC = Model(
    name="logistic",
    fits=_fits,
    outputs=lambda dataset: 1,
    loss=_loss,
    slope=_slope,
    accuracy=accuracy,
    solve=solve,
)
