"""A = L ⊗ R on a weight matrix: A acts as L W R."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .form import Form, as_matrix, norm


@dataclass(frozen=True)
class Kronecker(Form):
    """A W = L W R for W of (m, n), m² + n² numbers; L starts at 0 and R at the identity.

    Tensors of another number of dimensions are read as a matrix of the first by all others. M acts
    on a residual E as E (W R)ᵀ(W R) + (L W)(L W)ᵀ E; `gain` is the sum of the two traces, a bound.
    """

    variables = ("L", "R")
    large = True

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        m, n = as_matrix(w).shape
        return torch.zeros(m, m, dtype=w.dtype, device=w.device), torch.eye(
            n, dtype=w.dtype, device=w.device
        )

    def apply(self, x: Tensor, L: Tensor, R: Tensor) -> Tensor:
        return (L @ as_matrix(x) @ R).reshape(x.shape)

    def gain(self, x: Tensor, L: Tensor, R: Tensor) -> Tensor:
        return (as_matrix(x) @ R).square().sum() + (L @ as_matrix(x)).square().sum()

    def least_gain(self, x: Tensor, L: Tensor, R: Tensor) -> Tensor:
        one_column = as_matrix(x).shape[1] == 1
        return (as_matrix(x) @ R).square().sum() * one_column

    def norm(self, x: Tensor, L: Tensor, R: Tensor) -> Tensor:
        return norm(L) * norm(R)
