"""Poisson's and Helmholtz's equations in two dimensions, with solutions chosen beforehand."""

from __future__ import annotations

from functools import partial
from math import pi

import torch
from torch import Tensor

from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem, grid, sample

BOUNDARY = 10.0
"""What a boundary residual is multiplied by, since those inside are second derivatives."""


def poisson() -> Problem:
    """−Δu = f on (0, 1)² with u = sin(πx) sin(2πy), zero on the boundary."""
    return _problem("poisson", "Poisson, 2-D", (0.0, 1.0), (1, 2), 0.0)


def helmholtz() -> Problem:
    """Δu + u = f on (−1, 1)² with u = sin(πx) sin(4πy), zero on the boundary."""
    return _problem("helmholtz", "Helmholtz, 2-D", (-1.0, 1.0), (1, 4), 1.0)


def _problem(
    name: str, title: str, side: tuple[float, float], waves: tuple[int, int], square: float
) -> Problem:
    """Δu + k² u = f on a square.

    Args:
        name: of the problem.
        title: of the problem.
        side: the range of both x and y.
        waves: half-waves per unit length of the solution, in x and y.
        square: k².
    """
    low, high = [side[0]] * 2, [side[1]] * 2
    # A point inside, and one that is moved to the boundary.
    rows = sample(low * 2, high * 2)
    sides = torch.arange(len(rows)) % 4
    rows[sides < 2, 2] = torch.tensor(side, dtype=torch.float64)[sides[sides < 2]]
    rows[sides >= 2, 3] = torch.tensor(side, dtype=torch.float64)[sides[sides >= 2] - 2]
    axis = torch.linspace(*side, 51, dtype=torch.float64)
    points = grid(axis, axis)
    return Problem(
        name,
        title,
        partial(Network, low, high, (20, 20, 20)),
        rows,
        partial(residuals, waves=waves, square=square),
        points,
        solution(points, waves),
    )


def solution(points: Tensor, waves: tuple[int, int]) -> Tensor:
    """The exact solution at (x, y), sin(aπx) sin(bπy)."""
    return torch.sin(waves[0] * pi * points[:, 0]) * torch.sin(waves[1] * pi * points[:, 1])


def residuals(network: Network, rows: Tensor, waves: tuple[int, int], square: float) -> Tensor:
    """Of the equation inside, and of u on the boundary: (rows, 2)."""
    u = network.jet(rows[:, :2], second=(0, 1))
    factor = square - pi**2 * (waves[0] ** 2 + waves[1] ** 2)
    inside = u.second[0] + u.second[1] + square * u.value
    inside = inside - factor * solution(rows[:, :2], waves)
    return torch.stack([inside, BOUNDARY * network(rows[:, 2:])], 1)
