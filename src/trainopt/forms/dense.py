"""A dense: Full-TO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .form import Form


@dataclass(frozen=True)
class Dense(Form):
    """A of (d, d) numbers (Algorithm 1), kept as one block of rows per parameter."""

    variables = ("A",)
    rowwise = True
    dense = True
    large = True

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        return (torch.zeros(w.numel(), numel, dtype=w.dtype, device=w.device),)

    def apply(self, x: Tensor, A: Tensor) -> Tensor:
        return (A @ x.reshape(-1)).reshape(x.shape if len(A) == x.numel() else (-1,))

    def shapes(self, shape: Sequence[int], numel: int) -> tuple[Sequence[int], ...]:
        rows = 1
        for size in shape:
            rows *= size
        return ((rows, numel),)
