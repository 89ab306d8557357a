"""Solvers from outside the family of tuned stochastic steps, on the same axis of passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from trainopt.convex.problems import Problem
from trainopt.convex.timing import clock

Row = dict[str, Any]


def solver_rows(problem: Problem, passes: int, best: float) -> Iterator[Row]:
    """Run every solver that can take the problem.

    SAG and SAGA at scikit-learn's own step size, L-BFGS as in SciPy: none has a setting to tune.

    Args:
        problem: the problem.
        passes: budget; a pass is a gradient, or a value with its gradient, on every row.
        best: F*.

    Yields:
        Rows with optimizer, seed, passes, suboptimality and seconds (of this process, in one thread
            where the caller sees to that).
    """
    yield from _lbfgs(problem, passes, best)
    for name in ("sag", "saga"):
        fit = _sag(problem, name)
        if fit is None:
            continue
        for seed in range(3):
            for count in _counts(passes):
                start = clock()
                weights = fit(seed, count)
                seconds = clock() - start
                value = problem.objective(torch.from_numpy(weights)) - best
                yield _row(name, seed, count, value, seconds)


def _row(name: str, seed: int, passes: int, value: float, seconds: float) -> Row:
    return {
        "optimizer": name,
        "seed": seed,
        "passes": passes,
        "suboptimality": value,
        "seconds": seconds,
    }


def _counts(passes: int) -> list[int]:
    """1, 2, 3, 5, 8, 13, … up to the budget: scikit-learn has to start again for each."""
    counts = [1, 2]
    while counts[-1] < passes:
        counts.append(counts[-1] + counts[-2])
    return sorted({min(count, passes) for count in counts})


def _sag(problem: Problem, solver: str) -> Callable[[int, int], NDArray[np.float64]] | None:
    """fit(seed, passes) -> weights, or None where scikit-learn has no such solver."""
    data, strength = problem.dataset, problem.l2 * problem.n

    def fit(seed: int, passes: int) -> NDArray[np.float64]:
        common = {"fit_intercept": False, "max_iter": passes, "tol": 0.0, "random_state": seed}
        if problem.model.name == "ridge":
            model = Ridge(alpha=strength, solver=solver, **common)
        else:
            model = LogisticRegression(C=1 / strength, solver=solver, **common)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(data.x_train, data.y_train)
        return np.ascontiguousarray(np.asarray(model.coef_).reshape(-1, problem.shape[0]).T)

    if problem.model.name in ("ridge", "logistic"):
        return fit
    # Two classes are one column to scikit-learn and two to our softmax.
    return fit if problem.model.name == "softmax" and problem.shape[1] > 2 else None


def _lbfgs(problem: Problem, passes: int, best: float) -> list[Row]:
    rows: list[Row] = []
    lowest, start = np.inf, clock()

    def evaluate(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal lowest
        w = torch.from_numpy(flat.reshape(problem.shape)).requires_grad_()
        loss = problem.loss(w)
        (gradient,) = torch.autograd.grad(loss, w)
        lowest = min(lowest, loss.item() - best)
        if len(rows) <= passes:
            rows.append(_row("lbfgs", 0, len(rows), lowest, clock() - start))
        return loss.item(), gradient.numpy().ravel()

    minimize(
        evaluate,
        np.zeros(problem.dim),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": passes, "ftol": 0.0, "gtol": 0.0},
    )
    return rows
