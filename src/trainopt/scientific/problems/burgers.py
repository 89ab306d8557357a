"""Burgers' equation with little viscosity: a smooth start that becomes a shock."""

from __future__ import annotations

from functools import partial
from math import pi

import numpy as np
import torch
from torch import Tensor

from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem, grid, sample

VISCOSITY = 0.01 / pi


def burgers() -> Problem:
    """u_t + u u_x = ν u_xx on (−1, 1) × (0, 1), u = −sin(πx) at first, 0 at x = ±1, ν = 0.01/π."""
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    points = grid(torch.linspace(0, 1, 26, dtype=torch.float64), x).flip(1)
    return Problem(
        "burgers",
        "Burgers, viscous",
        partial(Network, [-1.0, 0.0], [1.0, 1.0], (20, 20, 20)),
        sample([-1, 0, -1, 0], [1, 1, 1, 1]),
        residuals,
        points,
        solution(points),
    )


def residuals(network: Network, rows: Tensor) -> Tensor:
    """Of the equation, of the start, and of both ends; rows are x, t, x at the start, t at an end.

    Returns:
        (rows, 4).
    """
    u = network.jet(rows[:, :2], second=(0,))
    slope, rate = u.first
    start, time, one = rows[:, 2], rows[:, 3], torch.ones(len(rows), dtype=rows.dtype)
    places = [(start, 0 * one), (-one, time), (one, time)]
    known = network(torch.cat([torch.stack(place, 1) for place in places]))
    first, left, right = known.chunk(3)
    inside = rate + u.value * slope - VISCOSITY * u.second[0]
    return torch.stack([inside, first + torch.sin(pi * start), left, right], 1)


def solution(points: Tensor, nodes: int = 200) -> Tensor:
    """The exact solution at (x, t), by Cole and Hopf's formula and Gauss–Hermite quadrature.

    u = −E[sin(πy) f(y)] / E[f(y)] with f(y) = exp(−cos(πy) / 2πν) and y = x − √(4νt) z, where z has
    the density exp(−z²)/√π.
    """
    z, weights = (torch.tensor(part) for part in np.polynomial.hermite.hermgauss(nodes))
    x, t = points[:, :1], points[:, 1:]
    y = x - torch.sqrt(4 * VISCOSITY * t) * z
    share = torch.softmax(torch.log(weights) - torch.cos(pi * y) / (2 * pi * VISCOSITY), 1)
    return -(share * torch.sin(pi * y)).sum(1)
