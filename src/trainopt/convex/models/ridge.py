"""Ridge regression: half the squared error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor

from trainopt.convex.models.model import Model, needs_number
from trainopt.data import Features


def _loss(scores: Tensor, y: Tensor) -> Tensor:
    return (scores[:, 0] - y).square().mean() / 2


def _slope(scores: Tensor, y: Tensor) -> Tensor:
    return scores - y[..., None]


def _solve(x: Features, y: NDArray[Any], outputs: int, l2: float) -> NDArray[np.float64]:
    """The closed form by Cholesky; conjugate gradients to full precision for a CSR matrix."""
    ridge = Ridge(alpha=l2 * len(y), fit_intercept=False, tol=1e-13)
    return np.asarray(ridge.fit(x, y[:, None]).coef_).reshape(-1, 1)


RIDGE = Model(
    name="ridge",
    fits=needs_number,
    outputs=lambda dataset: 1,
    loss=_loss,
    slope=_slope,
    accuracy=None,
    solve=_solve,
)
