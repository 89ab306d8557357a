"""Limited-memory secant pairs shared by all chunks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .compact import Compact

ALL = -1
"""The owner of a pair that was measured on all chunks together."""

LEAST_COSINE = 1e-6
LAST = 2**40  # what is added to the rank of a chunk's own pair: more than pushes in a run


def curved(ss: float, sy: float, yy: float) -> bool:
    """Return whether BFGS may use a pair: sᵀy > 1e-6 ‖s‖‖y‖, and both are finite and not 0."""
    size = math.sqrt(ss * yy)
    return 0 < size < math.inf and sy > LEAST_COSINE * size


class Pairs:
    """The newest M secant pairs (s, y), ‖s‖ = 1, of all chunks, with their inner products.

    Attributes:
        most: M.
        vectors: P, (2M, d): s₁ … s_M, y₁ … y_M; 0 where a place is empty.
        gram: P Pᵀ, (2M, 2M), float64 on the CPU.
        rank: (K, M), the order in which B_k takes the pairs: other chunks' first, then its own and
            those of all chunks; oldest first in both.
        pushes: pairs stored since the last `clear`; the next one's place is that modulo M.
        gamma: sᵀy / yᵀy of the newest pair that was stored, or None; `clear` keeps it.
    """

    def __init__(self, most: int, shares: Tensor, vectors: Tensor) -> None:
        self.most = most
        self.roots = shares.sqrt()[:, None, None]
        self.vectors = vectors
        self.gram = torch.zeros(2 * most, 2 * most, dtype=torch.float64)
        self._ss, self._sy = self.gram[:most, :most], self.gram[:most, most:]
        self.rank = torch.zeros(len(shares), most, dtype=torch.int64)
        self.pushes = 0
        self.gamma: float | None = None

    def products(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Return P [s y], (2M, 2), and [s y]ᵀ[s y], (2, 2): float64, CPU. One read of P.

        Args:
            both: s and y, (2, d).
        """
        joint = torch.cat([both @ self.vectors.T, both @ both.T], dim=1).cpu().double()
        return joint[:, :-2].T, joint[:, -2:]

    def matrices(self, delta: float) -> Compact:
        """Return the N_k of every chunk's B_k = δI − Pᵀ N_k P.

        An empty place stands for a pair (e, e) of its own dimension e, which P leaves out.

        Raises:
            ArithmeticError: see `Compact`.
        """
        most = self.most
        ss, sy = self._ss, self._sy
        if self.pushes < most:
            empty = torch.diag((torch.arange(most) >= self.pushes).double())
            ss, sy = ss + empty, sy + empty
        after = self.rank[:, :, None] > self.rank[:, None, :]
        return Compact(ss, sy, after, delta, self.roots)

    def push(self, both: Tensor, owner: int, products: tuple[Tensor, Tensor]) -> slice | None:
        """Store a pair in the place of the oldest one.

        Args:
            both: the difference of two points, s, and of the gradients there, y: (2, d).
            owner: the chunk that they were measured on, or `ALL`.
            products: what `products(both)` returned.

        Returns:
            The two rows of `vectors` that have changed, or None for a pair that isn't `curved`.
        """
        with_all, own = products
        (ss, sy), (_, yy) = own.tolist()
        if not curved(ss, sy, yy):
            return None
        place = self.pushes % self.most
        rows = slice(place, None, self.most)
        length = math.sqrt(ss)
        torch.div(both, length, out=self.vectors[rows])
        with_all = with_all / length
        with_all[rows] = own / ss
        self.gram[:, rows] = with_all
        self.gram[rows] = with_all.T
        self.pushes += 1
        self.rank[:, place] = self.pushes
        self.rank[slice(None) if owner == ALL else owner, place] = self.pushes + LAST
        self.gamma = sy / yy
        return rows

    def clear(self) -> None:
        """Drop all pairs."""
        self.pushes = 0
        for tensor in (self.vectors, self.gram, self.rank):
            tensor.zero_()

    def small(self) -> dict[str, Any]:
        """Return everything but `vectors`, for a state dict."""
        return {
            "gram": self.gram,
            "rank": self.rank,
            "pushes": self.pushes,
            "gamma": self.gamma,
        }
