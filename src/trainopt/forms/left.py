"""A W = L W on a weight matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .form import Form, as_matrix


@dataclass(frozen=True)
class Left(Form):
    """A W = L W for W of (m, n), m² numbers: the columns of W share one dense matrix.

    Tensors of another number of dimensions are read as a matrix of the first by all others.
    """

    variables = ("L",)
    large = True

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        m = as_matrix(w).shape[0]
        return (torch.zeros(m, m, dtype=w.dtype, device=w.device),)

    def apply(self, x: Tensor, L: Tensor) -> Tensor:
        return (L @ as_matrix(x)).reshape(x.shape)

    def least_gain(self, x: Tensor, L: Tensor) -> Tensor:
        return x.new_zeros(())
