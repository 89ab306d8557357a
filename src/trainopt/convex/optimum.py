"""The optimum a problem is judged against, found by another solver and then checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainopt.convex.problem import Problem

# Largest gap to the true minimum that still counts as solved, relative to max(1, F*).
TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Optimum:
    """A checked minimiser of a problem's objective F.

    Attributes:
        weights: float64 (features, outputs).
        value: F*, the objective there.
        gradient_norm: ‖∇F‖ there.
        gap_bound: ‖∇F‖²/(2·l2), which bounds how far `value` is above the true minimum, since F
            is l2-strongly convex.
    """

    weights: NDArray[np.float64]
    value: float
    gradient_norm: float
    gap_bound: float

    @property
    def solved(self) -> bool:
        """Whether the gap is small enough to judge by; False for NaN."""
        return self.gap_bound <= TOLERANCE * max(1.0, self.value)


def optimum(problem: Problem) -> Optimum:
    """Find the optimum with the model's own solver, and check it by the problem's gradient.

    Raises:
        RuntimeError: the solver's result isn't good enough to judge by.
    """
    data = problem.dataset
    weights = problem.model.solve(data.x_train, data.y_train, problem.shape[1], problem.l2)
    found = _assess(problem, weights)
    if not found.solved:
        raise RuntimeError(
            f"The reference solver left {problem.name} unsolved: the gap may be "
            f"{found.gap_bound:.1e}, above {TOLERANCE:g}."
        )
    return found


def _assess(problem: Problem, weights: NDArray[np.float64]) -> Optimum:
    w = torch.from_numpy(weights)
    norm = problem.full_gradient(w).norm().item()
    return Optimum(weights, problem.objective(w), norm, norm**2 / (2 * problem.l2))
