"""What a case is: its size, its optimum, and the conditioning of its Hessian there."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from trainopt.convex.optimum import optimum
from trainopt.convex.problems import Problem
from trainopt.convex.protocol import Case
from trainopt.data.sources import SOURCES
from trainopt.errors import InputError

# Up to this many weights all eigenvalues are computed; beyond, the smallest is bounded by l2.
_DENSE = 2000


class Facts(TypedDict):
    """One row of the table of cases; `weights` is w*."""

    rows: int
    n: int
    d: int
    classes: int | None
    best: float
    gap: float
    smoothness: float
    convexity: float
    condition: float
    fingerprint: str
    source: str
    licence: str
    weights: list[float]


def facts(case: Case, problem: Problem) -> Facts:
    """Solve the problem with the independent solver and measure its Hessian at the optimum.

    Costs a Newton solve, and O(d³) for d up to 2000, else some dozens of products with H.
    """
    found = optimum(problem)
    low, high = spectrum(problem, found.weights)
    source = SOURCES[case.data]
    data = problem.dataset
    return Facts(
        rows=problem.n + len(data.y_val),
        n=problem.n,
        d=problem.dim,
        classes=data.classes,
        best=found.value,
        gap=found.value - found.gap_bound,
        smoothness=high,
        convexity=low,
        condition=high / low,
        fingerprint=problem.fingerprint(),
        source=data.source,
        licence=source.licence,
        weights=found.weights.ravel().tolist(),
    )


def spectrum(problem: Problem, weights: NDArray[np.float64]) -> tuple[float, float]:
    """The smallest and largest eigenvalue of ∇²F at `weights`, (features, outputs).

    Beyond 2000 weights the smallest is l2: a bound, and exact for softmax, whose loss doesn't
    change when all classes' weights move together.
    """
    w = torch.from_numpy(weights).requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss(w), w, create_graph=True)

    def product(v: NDArray[np.float64]) -> Any:
        direction = torch.from_numpy(np.ascontiguousarray(v.reshape(weights.shape)))
        (found,) = torch.autograd.grad(gradient, w, direction, retain_graph=True)
        return found.numpy().ravel()

    d = weights.size
    if d <= _DENSE:
        hessian = np.stack([product(column) for column in np.eye(d)])
        values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
        return float(values[0]), float(values[-1])
    operator = LinearOperator((d, d), matvec=product, dtype=np.float64)
    start = np.ones(d)
    (high,) = eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)
    return problem.l2, float(high)


def check_optimum(problem: Problem, facts: dict[str, Any]) -> None:
    """Make sure that a study's w* and F* are this problem's, to well below what a run can reach.

    Not by fingerprint: features that are computed differ by rounding between machines.

    Raises:
        InputError: they are not.
    """
    w = torch.tensor(facts["weights"], dtype=torch.float64).reshape(problem.shape)
    above = problem.full_gradient(w).square().sum().item() / (2 * problem.l2)
    if max(above, abs(problem.objective(w) - facts["best"])) >= 1e-13:
        raise InputError(
            f"The data of {problem.name} aren't those of the convex study: run `trainopt study "
            "convex` on this machine first, and give its folder with --convex."
        )
