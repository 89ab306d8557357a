"""A W = L W on a weight matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .form import Form, as_matrix, norm


@dataclass(frozen=True)
class Left(Form):
    """A W = L W for W of (m, n), m² numbers: the columns of W share one dense matrix.

    Tensors of another number of dimensions are read as a matrix of the first by all others; on a
    vector this is `Dense`. M acts on the columns of a matrix as WᵀW: its eigenvalues are the
    squared singular values of W, at most ‖W‖², which `gain` is.
    """

    variables = ("L",)
    large = True

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        m = as_matrix(w).shape[0]
        return (torch.zeros(m, m, dtype=w.dtype, device=w.device),)

    def apply(self, x: Tensor, L: Tensor) -> Tensor:
        return (L @ as_matrix(x)).reshape(x.shape)

    def least_gain(self, x: Tensor, L: Tensor) -> Tensor:
        return self.gain(x, L) * (as_matrix(x).shape[1] == 1)

    def norm(self, x: Tensor, L: Tensor) -> Tensor:
        columns = as_matrix(x).shape[1]  # A holds L once for each
        return norm(L) * math.sqrt(columns)
