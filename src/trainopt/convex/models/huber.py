"""Huber regression: half the squared error up to a residual of 1, linear beyond."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import huber
from torch import Tensor
from torch.nn import functional

from trainopt.convex.models.model import Model, needs_number
from trainopt.data import Features

# Targets are standardised: a residual of one standard deviation.
_DELTA = 1.0


def _loss(scores: Tensor, y: Tensor) -> Tensor:
    return functional.huber_loss(scores[:, 0], y, delta=_DELTA)


def _slope(scores: Tensor, y: Tensor) -> Tensor:
    return (scores - y[..., None]).clamp(-_DELTA, _DELTA)


def _solve(x: Features, y: NDArray[Any], outputs: int, l2: float) -> NDArray[np.float64]:
    """The minimiser, by SciPy's trust-region Newton method on NumPy's own formulas."""

    def value(w: NDArray[np.float64]) -> float:
        return float(huber(_DELTA, x @ w - y).mean() + l2 / 2 * w @ w)

    def gradient(w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(x.T @ np.clip(x @ w - y, -_DELTA, _DELTA) / len(y) + l2 * w)

    def curvature(w: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.abs(x @ w - y) < _DELTA
        return np.asarray(x.T @ (inside * (x @ v)) / len(y) + l2 * v)

    found = minimize(
        value,
        np.zeros(x.shape[1]),
        jac=gradient,
        hessp=curvature,
        method="trust-krylov",
        options={"gtol": 1e-9, "maxiter": 1000},
    )
    return np.asarray(found.x)[:, None]


HUBER = Model(
    name="huber",
    fits=needs_number,
    outputs=lambda dataset: 1,
    loss=_loss,
    slope=_slope,
    accuracy=None,
    solve=_solve,
)
