"""Logistic regression on Adult (26 000 census rows) by SecantTO, beside scikit-learn's solvers.

    python examples/adult_logistic.py

F is the mean loss and λ/2 ‖w‖², λ = 1e-4, d = 100. Take scikit-learn's newton-cholesky here: with
so few weights nothing is faster. SecantTO is for models that a solver for one kind of model doesn't
fit, and it shows here that it arrives at the same optimum from mini-batches, where ADAM doesn't.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from passes import Row, adam, objective, secant, show
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from trainopt.convex.optimum import optimum
from trainopt.convex.problems import MODELS, Problem
from trainopt.data import load

L2 = 1e-4


def loss(scores: Tensor, y: Tensor) -> Tensor:
    """Mean logistic loss of scores (n, 1) and classes 0 and 1."""
    return nn.functional.binary_cross_entropy_with_logits(scores[:, 0], y)


def linear(features: int) -> nn.Linear:
    """A linear model at 0; its bias is the last feature."""
    model = nn.Linear(features, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model


def main(argv: list[str] | None = None) -> dict[str, Row]:
    """Fit, print the table, and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--data", choices=["adult", "breast-cancer"], default="adult")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--out", help="not used: the table is all there is")
    options = parser.parse_args(argv)

    found = load(options.data)
    problem = Problem(f"{options.data}-logistic", found, MODELS["logistic"], L2, options.batch)
    best = optimum(problem).value
    x, y = torch.tensor(found.x_train, dtype=torch.float32), torch.tensor(found.y_train).float()
    data = TensorDataset(x, y)

    def row(method: str, passes: int, seconds: float, model: nn.Linear) -> Row:
        with torch.no_grad():
            right = (model(torch.tensor(found.x_val).float())[:, 0] > 0).numpy() == found.y_val
        return Row(method, passes, seconds, objective(model, loss, data, L2), right.mean())

    rows = []
    for name, train in (("SecantTO", secant), ("ADAM", adam)):
        torch.manual_seed(0)
        model = linear(x.shape[1])
        seconds = train(model, loss, data, options.batch, options.passes, L2)
        rows.append(row(name, options.passes, seconds, model))
    for solver in ("newton-cholesky", "lbfgs"):
        fit = LogisticRegression(
            C=1 / (L2 * len(x)), fit_intercept=False, solver=solver, tol=1e-8, max_iter=1000
        )
        begin = time.perf_counter()
        fit.fit(found.x_train, found.y_train)
        seconds = time.perf_counter() - begin
        model = linear(x.shape[1]).double()
        model.weight.data.copy_(torch.from_numpy(fit.coef_))
        rows.append(
            row(f"scikit-learn, {solver}", int(np.max(fit.n_iter_)), seconds, model.float())
        )
    title = f"{options.data}: {len(x)} rows, {x.shape[1]} weights, λ = {L2:g}"
    return show(title, rows, best, "accuracy")


if __name__ == "__main__":
    main(sys.argv[1:])
