"""Allen and Cahn's equation: two phases part, and the front between them becomes steep."""

from __future__ import annotations

from functools import lru_cache, partial
from math import pi

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem, grid, sample

DIFFUSION, REACTION = 0.01, 5.0


def allen_cahn() -> Problem:
    """u_t = D u_xx + 5 (u − u³) on (−1, 1) × (0, 1), u = x² cos(πx) at first, −1 at x = ±1."""
    x, t, u = solution()
    return Problem(
        "allen-cahn",
        "Allen–Cahn",
        partial(Network, [-1.0, 0.0], [1.0, 1.0], (20, 20, 20)),
        sample([-1, 0, -1, 0], [1, 1, 1, 1]),
        residuals,
        grid(t, x).flip(1),
        u.flatten(),
    )


def residuals(network: Network, rows: Tensor) -> Tensor:
    """Of the equation, of the start, and of both ends; rows are x, t, x at the start, t at an end.

    Returns:
        (rows, 4).
    """
    u = network.jet(rows[:, :2], second=(0,))
    start, time, one = rows[:, 2], rows[:, 3], torch.ones(len(rows), dtype=rows.dtype)
    places = [(start, 0 * one), (-one, time), (one, time)]
    known = network(torch.cat([torch.stack(place, 1) for place in places]))
    first, left, right = known.chunk(3)
    inside = u.first[1] - DIFFUSION * u.second[0] - REACTION * (u.value - u.value**3)
    return torch.stack([inside, first - at_start(start), left + 1, right + 1], 1)


def at_start(x: Tensor) -> Tensor:
    """The start, x² cos(πx)."""
    return x.square() * torch.cos(pi * x)


@lru_cache
def solution(size: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    """Chebyshev points x (size + 1,), times t (26,), and u (26, size + 1) by spectral collocation.

    Source: Trefethen, Spectral Methods in MATLAB (2000), chapters 6 and 13.
    """
    x = np.cos(pi * np.arange(size + 1) / size)
    ends = np.where(np.arange(size + 1) % size == 0, 2.0, 1.0) * (-1.0) ** np.arange(size + 1)
    gaps = x[:, None] - x + np.eye(size + 1)
    derivative = np.outer(ends, 1 / ends) / gaps
    derivative -= np.diag(derivative.sum(1))
    second = (derivative @ derivative)[1:-1]
    t = np.linspace(0, 1, 26)

    def rate(_: float, inner: np.ndarray) -> np.ndarray:
        full = np.concatenate([[-1.0], inner, [-1.0]])
        change: np.ndarray = DIFFUSION * second @ full + REACTION * (inner - inner**3)
        return change

    def jacobian(_: float, inner: np.ndarray) -> np.ndarray:
        return DIFFUSION * second[:, 1:-1] + np.diag(REACTION * (1 - 3 * inner**2))

    start = at_start(torch.tensor(x[1:-1])).numpy()
    solved = solve_ivp(
        rate, (0, 1), start, method="Radau", t_eval=t, jac=jacobian, rtol=1e-9, atol=1e-11
    )
    u = np.pad(solved.y.T, ((0, 0), (1, 1)), constant_values=-1.0)
    return torch.tensor(x), torch.tensor(t), torch.tensor(u)
