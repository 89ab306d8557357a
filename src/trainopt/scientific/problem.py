"""A problem: a network, rows of collocation points, their residuals, and the solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import qmc
from torch import Tensor

from trainopt.scientific.network import Network

ROWS = 512
"""Rows of a problem of collocation points."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is minimised, and what the minimum should be.

    The loss is a mean over rows. A row holds points of every kind, such as one inside, one on the
    boundary and one at the start, so that a chunk of rows is a small copy of the whole problem, and
    the losses of equal chunks have the full loss as their mean.

    Attributes:
        name: in the tables of results.
        title: in words.
        network: makes the network of a seed.
        rows: (n, columns), float64.
        residuals: of a network and some rows, (rows, m); a row's loss is the sum of their squares.
        points: where the network is compared with the solution, (q, inputs).
        solution: there, (q,).
    """

    name: str
    title: str
    network: Callable[[int], Network]
    rows: Tensor
    residuals: Callable[[Network, Tensor], Tensor]
    points: Tensor
    solution: Tensor

    def losses(self, network: Network, rows: Tensor) -> Tensor:
        """The loss of each row, (rows,)."""
        return self.residuals(network, rows).square().sum(1)

    def loss(self, network: Network) -> Tensor:
        """The mean loss over all rows."""
        return self.losses(network, self.rows).mean()

    def error(self, network: Network) -> float:
        """The relative L2 error: ‖u − solution‖ / ‖solution‖ over `points`."""
        with torch.no_grad():
            difference = network(self.points) - self.solution
        return float(difference.norm() / self.solution.norm())


def sample(low: list[float], high: list[float], rows: int = ROWS) -> Tensor:
    """Scrambled Sobol points of a box, always the same: (rows, len(low))."""
    unit = qmc.Sobol(len(low), rng=0).random(rows)
    return torch.tensor(qmc.scale(unit, low, high), dtype=torch.float64)


def grid(*axes: Tensor) -> Tensor:
    """All points of a grid, (q, axes), the last axis running fastest."""
    return torch.stack([part.flatten() for part in torch.meshgrid(*axes, indexing="ij")], 1)
