"""Convection: a wave that travels round and round."""

from __future__ import annotations

from functools import partial
from math import pi

import torch
from torch import Tensor

from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem, grid, sample

SPEED = 10.0


def convection() -> Problem:
    """u_t + β u_x = 0 on (0, 2π) × (0, 1), periodic in x, u = sin x at first, β = 10."""
    x = torch.linspace(0, 2 * pi, 101, dtype=torch.float64)
    points = grid(torch.linspace(0, 1, 26, dtype=torch.float64), x).flip(1)
    low, high = [0.0, 0.0], [2 * pi, 1.0]
    return Problem(
        "convection",
        "Convection, β = 10",
        partial(Network, low, high, (20, 20, 20)),
        sample(low * 2, high * 2),
        residuals,
        points,
        solution(points),
    )


def residuals(network: Network, rows: Tensor) -> Tensor:
    """Of the equation, of the start, and of the period; rows are x, t, x at the start, t at an end.

    Returns:
        (rows, 3).
    """
    slope, rate = network.jet(rows[:, :2]).first
    start, time, zero = rows[:, 2], rows[:, 3], torch.zeros(len(rows), dtype=rows.dtype)
    places = [(start, zero), (zero, time), (zero + 2 * pi, time)]
    known = network(torch.cat([torch.stack(place, 1) for place in places]))
    first, left, right = known.chunk(3)
    return torch.stack([rate + SPEED * slope, first - torch.sin(start), left - right], 1)


def solution(points: Tensor) -> Tensor:
    """The exact solution at (x, t), sin(x − βt)."""
    return torch.sin(points[:, 0] - SPEED * points[:, 1])
