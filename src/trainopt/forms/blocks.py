"""A block diagonal: a dense matrix for every run of weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import check_count
from .form import Form


@dataclass(frozen=True)
class Blocks(Form):
    """A of dense blocks along its diagonal, size · d numbers; the last run may be shorter.

    Args:
        size: weights of a block, ≥ 1. Default: 16.

    Raises:
        ValueError, TypeError: `size` isn't a whole number ≥ 1.
    """

    variables = ("A",)
    large = True

    size: int = 16

    def __post_init__(self) -> None:
        check_count("size", self.size)

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        count = -(-w.numel() // self.size)
        return (torch.zeros(count, self.size, self.size, dtype=w.dtype, device=w.device),)

    def apply(self, x: Tensor, A: Tensor) -> Tensor:
        product = torch.bmm(A, self._runs(x)).reshape(-1)
        return product[: x.numel()].reshape(x.shape)

    def gain(self, x: Tensor, A: Tensor) -> Tensor:
        norms = self._runs(x).square().sum(1, keepdim=True)
        return norms.expand(-1, self.size, 1).reshape(-1)[: x.numel()].reshape(x.shape)

    def _runs(self, x: Tensor) -> Tensor:
        padding = -x.numel() % self.size
        return torch.nn.functional.pad(x.reshape(-1), (0, padding)).reshape(-1, self.size, 1)
