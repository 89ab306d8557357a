"""An inverse problem: a swing's friction and stiffness from measured angles."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem, sample

FRICTION, STIFFNESS = 0.3, 4.0
START, END = 2.0, 6.0
MEASURED = 32


def pendulum() -> Problem:
    """θ″ + c θ′ + k sin θ = 0 on (0, 6), θ(0) = 2, θ′(0) = 0; c and k from 32 exact angles."""
    measured = torch.linspace(0, END, MEASURED, dtype=torch.float64)
    inside = sample([0], [END])
    times = measured.repeat(len(inside) // MEASURED)
    angles = solution(measured).repeat(len(inside) // MEASURED)
    points = torch.linspace(0, END, 601, dtype=torch.float64)
    return Problem(
        "pendulum",
        "Pendulum, inverse",
        partial(Network, [0.0], [END], (20, 20, 20), unknowns=2),
        torch.stack([inside[:, 0], times, angles], 1),
        residuals,
        points[:, None],
        solution(points),
    )


def residuals(network: Network, rows: Tensor) -> Tensor:
    """Of the equation, and of an angle; rows are t, the time of the angle, the angle: (rows, 2)."""
    angle = network.jet(rows[:, :1], second=(0,))
    friction, stiffness = network.unknowns
    inside = angle.second[0] + friction * angle.first[0] + stiffness * torch.sin(angle.value)
    return torch.stack([inside, network(rows[:, 1:2]) - rows[:, 2]], 1)


def solution(times: Tensor) -> Tensor:
    """The angles at ascending times, by an explicit method of order 8."""

    def rate(_: float, state: np.ndarray) -> list[float]:
        angle, speed = state
        return [speed, -FRICTION * speed - STIFFNESS * np.sin(angle)]

    solved = solve_ivp(
        rate, (0, END), (START, 0.0), method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12
    )
    return torch.tensor(solved.y[0])
