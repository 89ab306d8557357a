"""The theorems, measured: O(1/t) with the schedules of Theorem 3.4, and where boundedness ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainopt.conditions import iterates_bounded, schedule_values, variables_bounded
from trainopt.convex.batched import Batched
from trainopt.convex.batched_steps import METHODS, Gradient
from trainopt.convex.conditioning import spectrum
from trainopt.convex.optimum import optimum
from trainopt.convex.problems import MODELS, Problem
from trainopt.data import load
from trainopt.schedules import InverseTime

# Columns of the curves that the theorem bounds.
ERRORS = {"distance": "E‖w − w*‖²", "estimator_error": "E‖Ĝ − ∇F(w)‖²"}
OPTIMIZERS = ("full", "diagonal", "rankone", "alpha0", "sgd", "adam")


class Stochastic(Protocol):
    """A strongly convex function with stochastic gradients, for many runs side by side."""

    name: str
    solution: Tensor
    smoothness: float
    convexity: float

    def gradient(self, generators: list[torch.Generator]) -> Gradient:
        """A mini-batch for every run; returns the gradients on it."""

    def full_gradient(self, w: Tensor) -> Tensor:
        """∇F at (runs, d)."""


class Quadratic:
    """½ (w − w*)ᵀ H (w − w*) with Gaussian noise N(0, I) on the gradient; H and w* are known."""

    name = "quadratic"

    def __init__(self, d: int = 10, smoothness: float = 10.0) -> None:
        generator = torch.Generator().manual_seed(0)
        basis, _ = torch.linalg.qr(torch.randn(d, d, generator=generator))
        self.hessian = basis @ torch.linspace(1.0, smoothness, d).diag() @ basis.T
        self.solution = torch.randn(d, generator=generator)
        self.smoothness, self.convexity = smoothness, 1.0

    def gradient(self, generators: list[torch.Generator]) -> Gradient:
        """The gradient with one draw of the noise per run."""
        draws = [torch.randn(len(self.solution), generator=g) for g in generators]
        return _noisy(self, torch.stack(draws))

    def full_gradient(self, w: Tensor) -> Tensor:
        """H (w − w*)."""
        gradient: Tensor = (w - self.solution) @ self.hessian
        return gradient


def _noisy(function: Quadratic, noise: Tensor) -> Gradient:
    return lambda w: function.full_gradient(w) + noise


class Logistic:
    """Logistic regression on breast-cancer, 16 rows drawn with replacement at each step."""

    name = "breast-cancer-logistic"

    def __init__(self, l2: float = 0.05, batch: int = 16) -> None:
        problem = Problem(self.name, load("breast-cancer"), MODELS["logistic"], l2, batch)
        found = optimum(problem)
        self.batched, self.batch, self.n = Batched(problem), batch, problem.n
        self.solution = torch.from_numpy(found.weights.ravel()).float()
        self.convexity, self.smoothness = spectrum(problem, found.weights)

    def gradient(self, generators: list[torch.Generator]) -> Gradient:
        """The gradient on each run's rows."""
        rows = [torch.randint(self.n, (self.batch,), generator=g) for g in generators]
        return self.batched.gradient(torch.stack(rows))

    def full_gradient(self, w: Tensor) -> Tensor:
        """∇F over all rows."""
        return self.batched.full_gradient(w).float()


FUNCTIONS: dict[str, Callable[[], Stochastic]] = {"quadratic": Quadratic, "logistic": Logistic}


@dataclass(frozen=True)
class Schedules:
    """The rates of Theorem 3.4, all c/(t + μ)."""

    lr: InverseTime
    alpha: InverseTime
    beta: InverseTime


def theorem_schedules(function: Stochastic, steps: int) -> Schedules:
    """Rates that meet the conditions over `steps` steps.

    γ = 3/(m (t + μ)), β = 3/(t + μ) with m the strong convexity and μ = 3 L/m, so that γ₀ = 1/L:
    the factors are large enough for the rate 1/t. α is as large as Σ α_t < 1/D² allows, with
    D = 2‖w*‖: runs start at 0.
    """
    condition = function.smoothness / function.convexity
    mu = 3 * condition
    reach = sum(1 / (t + mu) for t in range(steps))
    radius = 2 * float(function.solution.norm())
    return Schedules(
        InverseTime(3 / function.convexity, mu),
        InverseTime(0.9 / (radius**2 * reach), mu),
        InverseTime(3.0, mu),
    )


@torch.no_grad()
def curves(function: Stochastic, optimizer: str, steps: int, seeds: int) -> pd.DataFrame:
    """Run one optimizer with the schedules of the theorem.

    Returns:
        Rows at some 60 steps, evenly on a logarithmic axis, for each seed: t, seed, and the
        columns of `ERRORS`, and radius, the largest ‖w‖ so far.
    """
    schedules = theorem_schedules(function, steps)
    method = METHODS[optimizer]
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    w = torch.zeros(seeds, len(function.solution))
    # Beyond d steps A costs less than the terms it is a sum of.
    state = method.start(w, max(steps, 2 * w.shape[1]))
    watched = set(np.unique(np.geomspace(1, steps, 60).astype(int)).tolist())
    column = torch.ones(seeds, 1)
    rows = []
    # ADAM's step doesn't scale with the gradient: its rate starts at 0.1 and decays alike.
    scale = 0.1 / schedules.lr(0) if optimizer == "adam" else 1.0
    radius = w.norm(dim=1)
    for t in range(1, steps + 1):
        rates = {
            "lr": column * (schedules.lr(t - 1) * scale),
            "alpha": column * schedules.alpha(t - 1),
            "beta": column * schedules.beta(t - 1),
            "one_minus_beta1": column * 0.1,
            "t": torch.tensor(float(t)),
        }
        before = w
        w, estimate = method.step(w, function.gradient(generators), state, rates)
        radius = torch.maximum(radius, w.norm(dim=1))
        if t in watched:
            distance = (w - function.solution).square().sum(1)
            error = (estimate - function.full_gradient(before)).square().sum(1)
            rows += [
                {"t": t, "seed": seed, "distance": far, "estimator_error": miss, "radius": norm}
                for seed, (far, miss, norm) in enumerate(
                    zip(distance.tolist(), error.tolist(), radius.tolist(), strict=True)
                )
            ]
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def slope(table: pd.DataFrame, column: str, resamples: int = 1000) -> tuple[float, float, float]:
    """The slope of log E[column] against log t over the last two decades, with a 95 % interval.

    The interval is a percentile bootstrap over seeds: points of one run are no independent ones.

    Returns:
        slope, low, high.
    """
    late = table[table.t >= table.t.max() / 100]
    values = late.pivot(index="t", columns="seed", values=column)
    x = np.log(values.index.to_numpy(float))

    def fitted(means: NDArray[np.float64]) -> float:
        return float(np.polyfit(x, np.log(means), 1)[0])

    generator = np.random.default_rng(0)
    data = values.to_numpy()
    draws = [
        fitted(data[:, generator.integers(data.shape[1], size=data.shape[1])].mean(axis=1))
        for _ in range(resamples)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return fitted(data.mean(axis=1)), float(low), float(high)


def conditions(function: Stochastic, table: pd.DataFrame, steps: int) -> dict[str, float | bool]:
    """Propositions 3.2 and 3.3 for the schedules of the theorem, with ‖w‖ as it was in the run."""
    schedules = theorem_schedules(function, steps)
    lr = iterates_bounded(schedule_values(schedules.lr, 1), function.smoothness)
    alpha = variables_bounded(schedule_values(schedules.alpha, steps), float(table.radius.max()))
    return {
        "iterates_met": lr.met,
        "iterates_margin": lr.margin,
        "variables_met": alpha.met,
        "variables_margin": alpha.margin,
    }


# α times ‖w*‖² (Full-TO) or the largest w*ᵢ² (Diagonal-TO): far below the bound 2 − β to beyond.
SWEEP = np.concatenate([np.geomspace(0.01, 1.5, 9), np.linspace(1.6, 2.4, 17)])
SWEEP_BETA = 0.1
SWEEP_LR = (0.0, 1e-4, 1e-3, 1e-2)


@torch.no_grad()
def alpha_sweep(optimizer: str, lr: float, steps: int = 5000, seeds: int = 20) -> pd.DataFrame:
    """Constant α on the quadratic, from w*, where ‖w‖ is the one of the prediction.

    Args:
        optimizer: "full" or "diagonal".
        lr: constant γ; with 0 the weights are held, and the prediction is exact.
        steps: of each run.
        seeds: runs for each α.

    Returns:
        A row for each α of `SWEEP`: optimizer, lr, relative, factor (|1 − β − relative|, below 1
        where boundedness is predicted), estimate (the largest ‖Ĝ‖ of the run, median over seeds),
        and bounded (whether every seed's stays finite).
    """
    function = Quadratic()
    squares = function.solution.square()
    size = float(squares.sum() if optimizer == "full" else squares.max())
    relative = torch.from_numpy(SWEEP).float()
    runs = len(SWEEP) * seeds
    method = METHODS[optimizer]
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    w = function.solution.repeat(runs, 1)
    state = method.start(w, max(steps, 2 * w.shape[1]))
    rates = {
        "lr": torch.full((runs, 1), lr),
        "alpha": (relative / size).repeat_interleave(seeds)[:, None],
        "beta": torch.full((runs, 1), SWEEP_BETA),
    }
    largest = torch.zeros(runs)
    for _ in range(steps):
        # All α meet the same noise.
        draws = [torch.randn(len(function.solution), generator=g) for g in generators]
        gradient = _noisy(function, torch.stack(draws).repeat(len(SWEEP), 1))
        w, estimate = method.step(w, gradient, state, rates)
        norm = estimate.norm(dim=1)
        largest = torch.maximum(largest, torch.where(norm.isfinite(), norm, torch.inf))
    by_alpha = largest.view(len(SWEEP), seeds)
    table: pd.DataFrame = pd.DataFrame(
        {
            "optimizer": optimizer,
            "lr": lr,
            "relative": SWEEP,
            "factor": np.abs(1 - SWEEP_BETA - SWEEP),
            "estimate": by_alpha.median(dim=1).values.numpy(),
            "bounded": by_alpha.isfinite().all(dim=1).numpy(),
        }
    )
    return table
