"""Limited-memory secant pairs shared by all chunks, and the compact form of their BFGS matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

ALL = -1
"""The owner of a pair that was measured on all chunks together."""

LEAST_COSINE = 1e-6


def curved(ss: float, sy: float, yy: float) -> bool:
    """Return whether BFGS may use a pair: sᵀy > 1e-6 ‖s‖‖y‖, and both are finite and not 0."""
    size = math.sqrt(ss * yy)
    return 0 < size < math.inf and sy > LEAST_COSINE * size


def compact(gram: Tensor, order: Tensor, delta: float) -> Tensor | None:
    """Return N of the BFGS matrices B = δI − Pᵀ N P, P = [S; Y], one for each order of the pairs.

    B is what BFGS makes of δI when it takes the pairs in that order, in the compact form of Byrd,
    Nocedal and Schnabel (1994). With L the part of S Yᵀ strictly below its diagonal, D its diagonal
    and T = δ S Sᵀ + L D⁻¹ Lᵀ, a Cholesky factor of T is all that has to be computed.

    Args:
        gram: P Pᵀ, (2m, 2m), float64, every sᵢᵀyᵢ > 0.
        order: (K, m), row k a permutation of 0 … m − 1.
        delta: δ > 0.

    Returns:
        (K, 2m, 2m), the pairs in the order of `gram`; None where T isn't positive definite, which
        only rounding can do. O(K m³).
    """
    m = order.shape[1]
    rows, columns = order[:, :, None], order[:, None, :]
    ss, sy = gram[:m, :m][rows, columns], gram[:m, m:][rows, columns]
    curvature = sy.diagonal(dim1=1, dim2=2)
    lower = sy.tril(-1) / curvature[:, None, :]  # L D⁻¹
    t = delta * ss + lower @ sy.tril(-1).mT
    scale = t.diagonal(dim1=1, dim2=2).rsqrt()
    factor, failed = torch.linalg.cholesky_ex(t * scale[:, :, None] * scale[:, None, :])
    if failed.any():
        return None
    inverse = torch.cholesky_inverse(factor) * scale[:, :, None] * scale[:, None, :]
    corner = inverse @ lower
    n = gram.new_zeros(len(order), 2 * m, 2 * m)
    n[:, :m, :m] = delta**2 * inverse
    n[:, :m, m:] = delta * corner
    n[:, m:, :m] = delta * corner.mT
    n[:, m:, m:] = lower.mT @ corner - torch.diag_embed(1 / curvature)
    back = order.argsort(dim=1)
    back = torch.cat([back, back + m], dim=1)
    return n.gather(1, back[:, :, None].expand_as(n)).gather(2, back[:, None, :].expand_as(n))


class Pairs:
    """The newest M secant pairs (s, y), ‖s‖ = 1, of all chunks, with their inner products.

    Attributes:
        vectors: P, (2M, d): s₁ … s_M, y₁ … y_M; 0 where a place is empty.
        gram: P Pᵀ, (2M, 2M), float64 on the CPU.
        owner: (M,), the chunk that a pair was measured on, or `ALL`.
        born: (M,), the number of the push that brought it, from 1; 0 where the place is empty.
        gamma: sᵀy / yᵀy of the newest pair that was accepted, or None; `clear` keeps it.
    """

    def __init__(self, most: int, vectors: Tensor) -> None:
        self.most = most
        self.vectors = vectors
        self.gram = torch.zeros(2 * most, 2 * most, dtype=torch.float64)
        self.owner = torch.zeros(most, dtype=torch.int64)
        self.born = torch.zeros(most, dtype=torch.int64)
        self.gamma: float | None = None

    def products(self, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return P [s y], (2M, 2), and [s y]ᵀ[s y], (2, 2): float64, CPU. One read of P."""
        both = torch.stack([s, y])
        joint = torch.cat([self.vectors @ both.T, both @ both.T]).to("cpu", torch.float64)
        return joint[:-2], joint[-2:]

    def push(
        self, s: Tensor, y: Tensor, owner: int, products: tuple[Tensor, Tensor]
    ) -> list[int] | None:
        """Store a pair in the place of the oldest one.

        Args:
            s: the difference of two points, (d,).
            y: the difference of the gradients there, (d,).
            owner: the chunk that they were measured on, or `ALL`.
            products: what `products(s, y)` returned.

        Returns:
            The two rows of `vectors` that have changed, or None for a pair that isn't `curved`.
        """
        with_all, own = products
        ss, sy, yy = float(own[0, 0]), float(own[0, 1]), float(own[1, 1])
        if not curved(ss, sy, yy):
            return None
        place = int(self.born.argmin())
        rows = [place, self.most + place]
        torch.div(s, ss**0.5, out=self.vectors[rows[0]])
        torch.div(y, ss**0.5, out=self.vectors[rows[1]])
        with_all = with_all / ss**0.5
        with_all[rows] = own / ss
        self.gram[:, rows] = with_all
        self.gram[rows] = with_all.T
        self.owner[place] = owner
        self.born[place] = self.born.max() + 1
        self.gamma = sy / yy
        return rows

    def clear(self) -> None:
        """Drop all pairs."""
        for tensor in (self.vectors, self.gram, self.owner, self.born):
            tensor.zero_()

    def live(self) -> Tensor:
        """Return the places that hold a pair, oldest first: (m,)."""
        order = self.born.argsort()
        return order[self.born[order] > 0]

    def orders(self, chunks: int, live: Tensor) -> Tensor:
        """Return, for each chunk, the order in which its B takes the pairs `live`: (K, m).

        Other chunks' pairs first, then its own and those of all chunks, oldest first in both.
        """
        owner = self.owner[live]
        last = (owner == torch.arange(chunks)[:, None]) | (owner == ALL)
        return last.to(torch.int8).argsort(dim=1, stable=True)

    def small(self) -> dict[str, Any]:
        """Return everything but `vectors`, for a state dict."""
        return {
            "gram": self.gram,
            "owner": self.owner,
            "born": self.born,
            "gamma": self.gamma,
        }
