"""The optimum a problem is judged against, found by another solver and then checked."""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainopt.bench.problems.problem import Problem

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


def optimum(problem: Problem, cache: Path | None = None) -> Optimum:
    """Find the optimum with the model's own solver, and check it by the problem's gradient.

    Args:
        problem: what to solve.
        cache: directory in which solved weights are kept, in `<fingerprint>.npz`. What is read
            from there is checked as well, and solved anew when it can't be used.

    Raises:
        RuntimeError: the solver's result isn't good enough to judge by.
    """
    path = None if cache is None else cache / f"{problem.fingerprint()}.npz"
    if path is not None and (kept := _read(path, problem)) is not None and kept.solved:
        return kept
    data = problem.dataset
    weights = problem.model.solve(data.x_train, data.y_train, problem.shape[1], problem.l2)
    found = _assess(problem, weights)
    if not found.solved:
        raise RuntimeError(
            f"The reference solver left {problem.name} unsolved: the gap may be "
            f"{found.gap_bound:.1e}, above {TOLERANCE:g}."
        )
    if path is not None:
        _write(path, weights)
    return found


def _assess(problem: Problem, weights: NDArray[np.float64]) -> Optimum:
    w = torch.from_numpy(weights)
    norm = problem.full_gradient(w).norm().item()
    return Optimum(weights, problem.objective(w), norm, norm**2 / (2 * problem.l2))


def _read(path: Path, problem: Problem) -> Optimum | None:
    try:
        with np.load(path) as file:
            weights = file["weights"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    usable = weights.shape == problem.shape and weights.dtype == np.float64
    return _assess(problem, weights) if usable else None


def _write(path: Path, weights: NDArray[np.float64]) -> None:
    """Write beside the target and rename, so that no reader ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez(file, weights=weights)
    os.replace(file.name, path)
