"""Limited-memory secant pairs shared by all chunks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .compact import Compact

ALL = -1
"""The owner of a pair that was measured on all chunks together."""

Products = tuple[Tensor, list[list[float]]]
"""What `Pairs.products` returns."""

LEAST_COSINE = 1e-6
LAST = 2**40  # what is added to the rank of a chunk's own pair: more than pushes in a run


def curved(ss: float, sy: float, yy: float) -> bool:
    """Return whether BFGS may use a pair: sᵀy > 1e-6 ‖s‖‖y‖, and both are finite and not 0."""
    size = math.sqrt(ss * yy)
    return 0 < size < math.inf and sy > LEAST_COSINE * size


class Pairs:
    """The newest M secant pairs of all chunks, with their inner products.

    A place that is empty holds a pair (e, e) of a dimension e of its own, which P leaves out: so
    all M are alike.

    Attributes:
        most: M.
        vectors: P, (2M, d), s₁ … s_M, y₁ … y_M, each divided by its length.
        gram: P Pᵀ, (2M, 2M), float64 on the CPU.
        curvature: (2M,), yᵀy / sᵀy of each pair after M zeros.
        rank: (K, M), the order in which B_k takes the pairs: other chunks' first, then its own and
            those of all chunks; oldest first in both.
        pushes: pairs stored since the last `clear`; the next one's place is that modulo M.
        newest: yᵀy / sᵀy of the newest pair that was stored, or None; `clear` keeps it.
    """

    def __init__(self, most: int, shares: Tensor, vectors: Tensor) -> None:
        self.most = most
        self.vectors = vectors
        self.gram = torch.empty(2 * most, 2 * most, dtype=torch.float64)
        self._ss, self._sy = self.gram[:most, :most], self.gram[:most, most:]
        self.curvature = torch.empty(2 * most, dtype=torch.float64)
        self.rank = torch.empty(len(shares), most, dtype=torch.int64)
        self.newest: float | None = None
        self._roots = shares.sqrt()[:, None, None]
        self._right = torch.eye(most, 2 * most, dtype=torch.float64).repeat(len(shares), 1, 1)
        self._vectors_of = [vectors[place::most] for place in range(most)]
        self._empty()

    def products(self, both: Tensor) -> Products:
        """Return [s y]ᵀ Pᵀ, (2, 2M), float64 on the CPU, and [s y]ᵀ[s y]. One read of P.

        Args:
            both: s and y, (2, d).
        """
        with_all = torch.mm(both, self.vectors.T).to("cpu", torch.float64)
        return with_all, torch.mm(both, both.T).tolist()

    def matrices(self, delta: float) -> Compact:
        """Return the N_k of every chunk's B_k = δ (I − Pᵀ N_k P).

        Raises:
            ArithmeticError: see `Compact`.
        """
        kappa = self.curvature / delta
        return Compact(self._ss, self._sy, kappa, self.rank, self._roots, self._right)

    def push(self, both: Tensor, owner: int, products: Products) -> bool:
        """Store a pair in the place of the oldest one; return False for one that isn't `curved`.

        Args:
            both: the difference of two points, s, and of the gradients there, y: (2, d).
            owner: the chunk that they were measured on, or `ALL`.
            products: what `products(both)` returned.
        """
        with_all, ((ss, sy), (_, yy)) = products
        if not curved(ss, sy, yy):
            return False
        place = self.pushes % self.most
        rows = slice(place, None, self.most)
        cosine = sy / math.sqrt(ss * yy)
        own = with_all.new_tensor([[math.sqrt(ss), 1.0, cosine], [math.sqrt(yy), cosine, 1.0]])
        lengths = own[:, :1]
        torch.div(both, lengths.to(both), out=self._vectors_of[place])
        with_all = with_all / lengths
        self.gram[rows] = with_all
        self.gram[:, rows] = with_all.T
        self.gram[rows, rows] = own[:, 1:]
        self.pushes += 1
        ranks = self.rank[:, place].fill_(self.pushes)
        (ranks if owner == ALL else ranks[owner]).add_(LAST)
        self.newest = yy / sy
        self.curvature[self.most + place].fill_(self.newest)
        return True

    def since(self, pushes: int) -> tuple[Tensor, slice]:
        """Return the rows of `vectors` that have changed since there were so many pushes."""
        if self.pushes - pushes > 1:
            return self.vectors, slice(None)
        place = (self.pushes - 1) % self.most
        return self._vectors_of[place], slice(place, None, self.most)

    def clear(self) -> None:
        """Drop all pairs."""
        self.vectors.zero_()
        self._empty()

    def _empty(self) -> None:
        self.pushes = 0
        self.rank.zero_()
        self.gram.copy_(torch.eye(self.most).repeat(2, 2))
        self.curvature.copy_(torch.arange(2 * self.most) >= self.most)

    def small(self) -> dict[str, Any]:
        """Return everything but `vectors`, for a state dict."""
        names = ("gram", "curvature", "rank", "pushes", "newest")
        return {name: getattr(self, name) for name in names}
