"""Optimizers that exist for comparison only: averaged SGD, and Diagonal-TO with a part removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from trainopt.forms import Diagonal
from trainopt.learning import Gradient
from trainopt.optim import TrainableOptimizer
from trainopt.schedules import Schedule
from trainopt.settings import Rate


class AveragedSGD(torch.optim.SGD):
    """SGD judged at a running average of its iterates (Polyak; Shamir and Zhang 2013).

    w̄ ← w̄ + (1 + η)/(t + η) (w − w̄) after step t = 1, 2, …: the plain mean of all iterates for
    η = 0, one that forgets the early ones for η > 0. `eval()` puts the average into the parameters
    and `train()` puts the iterate back, as in schedule-free optimizers.

    Args:
        params: parameters.
        lr: learning rate.
        eta: η ≥ 0.
    """

    def __init__(self, params: list[Tensor], lr: float, eta: float) -> None:
        super().__init__(params, lr=lr)
        self.eta = eta
        self.taken = 0
        self._at_average = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step of SGD, and move the average."""
        loss: float | None = super().step(closure)
        self.taken += 1
        for p in self.param_groups[0]["params"]:
            average = self.state[p].setdefault("average", p.detach().clone())
            average.lerp_(p, (1 + self.eta) / (self.taken + self.eta))
        return loss

    def eval(self) -> None:
        """Put the average into the parameters."""
        self._swap(to_average=True)

    def train(self) -> None:
        """Put the iterate into the parameters."""
        self._swap(to_average=False)

    @torch.no_grad()
    def _swap(self, to_average: bool) -> None:
        if self._at_average == to_average:
            return
        self._at_average = to_average
        for p in self.param_groups[0]["params"]:
            if "average" in self.state[p]:
                iterate = p.clone()
                p.copy_(self.state[p]["average"])
                self.state[p]["average"].copy_(iterate)


@dataclass(frozen=True)
class FirstStep(Schedule):
    """1 at the first step and 0 afterwards: as β, b is the first gradient for ever.

    (With b = 0 for ever, w₀ = 0 and A₀ = 0 would be a fixed point.)
    """

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return 1 where t = 0, else 0."""
        return 1.0 * (t == 0)


@dataclass(frozen=True)
class Lagged(Gradient):
    """The paper's rule with the estimate A x + b = g − e from before the update."""

    def estimate(self, g: Tensor, e: Tensor, change: Tensor, beta: float | Tensor) -> Tensor:
        """Return g − e."""
        return g - e


class LaggedDiagonalTO(TrainableOptimizer):
    """Diagonal-TO that steps along the estimate it had before it learned from the step."""

    def __init__(self, params: ParamsT, lr: Rate, alpha: Rate = 0.01, beta: Rate = 1.0) -> None:
        super().__init__(params, Diagonal(), Lagged(alpha, beta), lr=lr)
