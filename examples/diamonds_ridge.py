"""Ridge regression on diamonds (43 000 log prices) by SecantTO, beside ADAM and the exact solution.

    python examples/diamonds_ridge.py

F is half the mean squared error and λ/2 ‖w‖², λ = 1e-4, d = 24. Least squares has a closed form,
which scikit-learn's Ridge takes in a hundredth of a second: it is the reference, not a rival. The
table shows how near mini-batches come to it.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from passes import Row, adam, objective, secant, show
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from trainopt.data import load

L2 = 1e-4


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Half the mean squared error of outputs (n, 1)."""
    return 0.5 * (outputs[:, 0] - y).square().mean()


def main(argv: list[str] | None = None) -> dict[str, Row]:
    """Fit, print the table, and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--data", choices=["diamonds", "diabetes"], default="diamonds")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--out", help="not used: the table is all there is")
    options = parser.parse_args(argv)

    found = load(options.data)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in (found.x_train, found.y_train))
    data = TensorDataset(x, y)
    begin = time.perf_counter()
    exact = Ridge(alpha=L2 * len(x), fit_intercept=False, solver="cholesky")
    exact.fit(x.double().numpy(), y.double().numpy())
    closed = time.perf_counter() - begin

    def linear() -> nn.Linear:
        model = nn.Linear(x.shape[1], 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def row(method: str, passes: int, seconds: float, model: nn.Linear) -> Row:
        x_val, y_val = (torch.tensor(part).float() for part in (found.x_val, found.y_val))
        with torch.no_grad():
            error = (model(x_val)[:, 0] - y_val).var(correction=0)
        score = 1 - float(error / y_val.var(correction=0))
        return Row(method, passes, seconds, objective(model, loss, data, L2), score)

    rows = []
    for name, train in (("SecantTO", secant), ("ADAM", adam)):
        torch.manual_seed(0)
        model = linear()
        seconds = train(model, loss, data, options.batch, options.passes, L2)
        rows.append(row(name, options.passes, seconds, model))
    model = linear().double()
    model.weight.data.copy_(torch.from_numpy(exact.coef_))
    best = objective(model, loss, data, L2)
    rows.append(row("scikit-learn, Ridge", 1, closed, model.float()))
    title = f"{options.data}: {len(x)} rows, {x.shape[1]} weights, λ = {L2:g}"
    return show(title, rows, best, "variance explained")


if __name__ == "__main__":
    main(sys.argv[1:])
