"""Many runs of one problem and one optimizer as a single tensor program.

The runs are all pairs of some seeds and some settings. Runs of one seed see the same mini-batches,
so their scores are one matrix product; everything else has a leading axis of runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from trainopt.convex.batched_steps import METHODS, Gradient, Method, Rates
from trainopt.convex.problems import Problem
from trainopt.harness.optimizers import SCHEDULES, Settings


@dataclass(frozen=True, eq=False)
class Runs:
    """How runs went: arrays of shape (settings, seeds, epochs + 1), from the start on.

    Attributes:
        passes: what an epoch of these runs costs in passes over the data.
        suboptimality: F − F*; inf from where a run diverged.
        estimator_error: ‖Ĝ − ∇F‖² at the epoch's last step; NaN at the start.
    """

    passes: int
    suboptimality: NDArray[np.float64]
    estimator_error: NDArray[np.float64]


class Batched:
    """A problem whose losses and gradients are taken at many weights at once.

    Weights are (runs, d), d = features · outputs. Dense data only; a CSR matrix is filled.

    Args:
        problem: the problem.
    """

    def __init__(self, problem: Problem) -> None:
        x = problem.dataset.x_train
        dense = x.toarray() if sparse.issparse(x) else x
        self.problem = problem
        self.x64 = torch.from_numpy(np.ascontiguousarray(dense))
        self.x = self.x64.float()
        self.y = torch.from_numpy(problem.dataset.y_train)
        if self.y.is_floating_point():
            self.y64, self.y = self.y, self.y.float()
        else:
            self.y64 = self.y

    def gradient(self, rows: Tensor) -> Gradient:
        """The gradients at weights (seeds · settings, d) over `rows`, (seeds, batch)."""
        x, y = self.x[rows], self.y[rows][:, :, None]
        seeds, batch = rows.shape
        features, outputs = self.problem.shape

        def at(w: Tensor) -> Tensor:
            # The runs of a seed share its rows: side by side they are one matrix product.
            side = w.view(seeds, -1, features, outputs).transpose(1, 2)
            settings = side.shape[2]
            flat = side.reshape(seeds, features, settings * outputs)
            scores = torch.bmm(x, flat).view(seeds, batch, settings, outputs)
            slope = self.problem.model.slope(scores, y).view(seeds, batch, settings * outputs)
            product = torch.bmm(x.transpose(1, 2), slope).view(seeds, features, settings, outputs)
            mean: Tensor = product.transpose(1, 2).reshape(w.shape) / batch
            return mean.add_(w, alpha=self.problem.l2)

        return at

    def orders(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The rows of the next pass in random order, (seeds, n)."""
        return torch.stack([torch.randperm(self.problem.n, generator=g) for g in generators])

    def scores(self, w: Tensor) -> Tensor:
        """The scores of all training rows in float64, (n, runs, outputs)."""
        features, outputs = self.problem.shape
        flat = w.double().view(-1, features, outputs).transpose(0, 1).reshape(features, -1)
        return (self.x64 @ flat).view(self.problem.n, -1, outputs)

    def objective(self, w: Tensor) -> NDArray[np.float64]:
        """F at each of the weights, float64 (runs,); inf where it isn't finite."""
        scores = self.scores(w)
        losses = torch.stack(
            [self.problem.model.loss(scores[:, i], self.y64) for i in range(len(w))]
        )
        values = (losses + self.problem.l2 / 2 * w.double().square().sum(1)).numpy()
        return np.where(np.isfinite(values), values, np.inf)

    def full_gradient(self, w: Tensor) -> Tensor:
        """∇F at each of the weights, float64 (runs, d)."""
        features, outputs = self.problem.shape
        slope = self.problem.model.slope(self.scores(w), self.y64[:, None])
        product = self.x64.T @ slope.reshape(self.problem.n, -1) / self.problem.n
        mean: Tensor = product.view(features, -1, outputs).transpose(0, 1).reshape(w.shape)
        return mean + self.problem.l2 * w.double()


def train_all(
    data: Batched,
    optimizer: str,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    passes: int,
    best: float,
    every_epoch: bool = True,
) -> Runs:
    """Train every setting with every seed, from the problem's initial point.

    The same numbers as `convex.train.train` run by run, to rounding.

    Args:
        data: the problem.
        optimizer: a key of `METHODS`.
        settings: values for the optimizer's settings, one dictionary each.
        seeds: of the order of the data.
        passes: budget in passes over the data; an optimizer whose epochs cost more makes fewer.
        best: F*.
        every_epoch: judge after every epoch; otherwise at the end only, and the other entries
            are NaN.
    """
    method = METHODS[optimizer]
    return train_method(data, method, settings, seeds, passes, best, every_epoch)


@torch.no_grad()
def train_method(
    data: Batched,
    method: Method,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    passes: int,
    best: float,
    every_epoch: bool = True,
) -> Runs:
    """As `train_all`, for a method that isn't in the tables."""
    problem = data.problem
    epochs = passes // method.passes
    per_epoch = math.ceil(problem.n / problem.batch_size)
    runs = len(seeds) * len(settings)
    rates = _rates(settings, len(seeds), per_epoch, epochs)
    w = problem.initial().reshape(1, -1).repeat(runs, 1)
    state = method.start(w, per_epoch * epochs)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    suboptimality = np.full((epochs + 1, runs), np.nan)
    error = np.full((epochs + 1, runs), np.nan)
    suboptimality[0] = data.objective(w) - best
    step = 0
    for epoch in range(1, epochs + 1):
        orders = data.orders(generators)
        if method.anchor is not None:
            method.anchor(state, w, data.full_gradient(w).float())
        for rows in torch.split(orders, problem.batch_size, dim=1):
            now = {name: rate[step] for name, rate in rates.items()}
            before = w
            w, estimate = method.step(w, data.gradient(rows), state, now)
            step += 1
        if every_epoch or epoch == epochs:
            suboptimality[epoch] = data.objective(method.judged(w, state, now)) - best
        if every_epoch:
            miss = (estimate.double() - data.full_gradient(before)).square().sum(1).numpy()
            error[epoch] = np.where(np.isfinite(suboptimality[epoch]), miss, np.inf)
    shape = (epochs + 1, len(seeds), len(settings))
    return Runs(
        method.passes,
        suboptimality.reshape(shape).transpose(2, 1, 0),
        error.reshape(shape).transpose(2, 1, 0),
    )


def _rates(settings: Sequence[Settings], seeds: int, per_epoch: int, epochs: int) -> Rates:
    """Every setting at every step, float32 (steps, seeds · settings, 1), and t = 1, 2, … itself."""
    total = per_epoch * epochs
    t = torch.arange(total, dtype=torch.float64)
    rates: Rates = {"t": t + 1}
    for name in settings[0]:
        if name.endswith("_schedule"):
            continue
        columns = []
        for each in settings:
            value: float | Tensor = each[name]
            if f"{name}_schedule" in each:
                value = SCHEDULES[each[f"{name}_schedule"]](each[name], per_epoch, total)(t)
            columns.append(torch.as_tensor(value, dtype=torch.float64).expand(total))
        rates[name] = torch.stack(columns, 1).float().repeat(1, seeds)[:, :, None]
    return rates
