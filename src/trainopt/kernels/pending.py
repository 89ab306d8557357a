"""Rank-one updates of A that wait beside it, so that a step needn't write A."""

from __future__ import annotations

import torch
from torch import Tensor

# So many steps share one writing of A. More save little: a step moves 1 + 1/CAPACITY times A.
CAPACITY = 8


class Pending:
    """A + Uᵀ V: the A of one vector of weights, in blocks of rows, and the pairs of recent steps.

    A step adds α e to U and the weights to V; when CAPACITY pairs wait, they go into A. Memory:
    CAPACITY · (rows + columns) numbers.

    Args:
        blocks: the blocks of rows of A, (rows of the block, columns) each.
        dtype: of the pairs.

    Attributes:
        A: the blocks.
        U: for each block, (capacity, rows).
        V: (capacity, columns).
        count: pairs that wait.
    """

    def __init__(self, blocks: list[Tensor], dtype: torch.dtype) -> None:
        rows, columns = [len(A) for A in blocks], blocks[0].shape[1]
        self.A = blocks
        self.capacity = CAPACITY
        self.U = [A.new_zeros(CAPACITY, n, dtype=dtype) for A, n in zip(blocks, rows, strict=True)]
        self.V = blocks[0].new_zeros(CAPACITY, columns, dtype=dtype)
        self.count = 0

    def flush(self) -> None:
        """Add the pairs to A."""
        if self.count:
            V = self.V[: self.count]
            for A, U in zip(self.A, self.U, strict=True):
                A.addmm_(U[: self.count].T.to(A.dtype), V.to(A.dtype))
            self.count = 0
