"""A = 0: momentum, the baseline of every claim."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .form import Form


@dataclass(frozen=True)
class Zero(Form):
    """A = 0 for ever: Ĝ = b is the exponential average of the gradients, at d numbers of state.

    The same numbers as any other form with α = 0, which the vectors of A would be carried for.
    """

    like_weights = True
    elementwise = True

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        return ()

    def apply(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def gain(self, x: Tensor) -> Tensor:
        return x.new_zeros(())

    def norm(self, x: Tensor) -> Tensor:
        return x.new_zeros(())
