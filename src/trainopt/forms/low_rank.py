"""A = U Vᵀ with k columns each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import check_count
from .form import Form


@dataclass(frozen=True)
class LowRank(Form):
    """A = U Vᵀ, 2 k d numbers; U starts at 0 and V at k random directions of length 1 or so.

    M = ‖Vᵀx‖² + ‖x‖² U Uᵀ; `gain` takes ‖U‖² for the largest eigenvalue of U Uᵀ, which it bounds
    (and is, for k = 1).

    Args:
        rank: k ≥ 1. Default: 4.

    Raises:
        ValueError, TypeError: `rank` isn't a whole number ≥ 1.
    """

    variables = ("U", "V")
    rowwise = True

    rank: int = 4

    def __post_init__(self) -> None:
        check_count("rank", self.rank)

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        U = torch.zeros(w.numel(), self.rank, dtype=w.dtype, device=w.device)
        return U, torch.empty_like(U).normal_(std=max(numel, 1) ** -0.5)

    def apply(self, x: Tensor, U: Tensor, V: Tensor) -> Tensor:
        return (U @ (V.T @ x.reshape(-1))).reshape(x.shape)

    def gain(self, x: Tensor, U: Tensor, V: Tensor) -> Tensor:
        return self.least_gain(x, U, V) + x.square().sum() * U.square().sum()

    def least_gain(self, x: Tensor, U: Tensor, V: Tensor) -> Tensor:
        return (V.T @ x.reshape(-1)).square().sum()

    def norm(self, x: Tensor, U: Tensor, V: Tensor) -> Tensor:
        return ((U.T @ U) * (V.T @ V)).sum().clamp_min(0).sqrt()
