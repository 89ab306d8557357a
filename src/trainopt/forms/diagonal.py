"""A = diag(a): Diagonal-TO."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .form import Form


@dataclass(frozen=True)
class Diagonal(Form):
    """A = diag(a), d numbers (Algorithm 2)."""

    variables = ("a",)
    like_weights = True
    elementwise = True

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        return (torch.zeros_like(w),)

    def apply(self, x: Tensor, a: Tensor) -> Tensor:
        return a * x

    def gain(self, x: Tensor, a: Tensor) -> Tensor:
        return x.square()
