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


def compact(ss: Tensor, sy: Tensor, after: Tensor, delta: float) -> Tensor | None:
    """Return N of the BFGS matrices B = δI − Pᵀ N P, P = [S; Y], one for each order of the pairs.

    B is what BFGS makes of δI when it takes the pairs in that order, in the compact form of Byrd,
    Nocedal and Schnabel (1994). With D the diagonal of S Yᵀ, L its entries where pair i is taken
    after pair j, and T = δ S Sᵀ + L D⁻¹ Lᵀ, a Cholesky factor of T is all that has to be computed:
    N = [δI, L D⁻¹]ᵀ T⁻¹ [δI, L D⁻¹], less D⁻¹ in its last block.

    Args:
        ss: S Sᵀ, (M, M), float64.
        sy: S Yᵀ, (M, M), float64, its diagonal > 0.
        after: (K, M, M), whether order k takes pair i after pair j.
        delta: δ > 0.

    Returns:
        (K, 2M, 2M); None where T isn't positive definite, which only rounding can do. O(K M³).
    """
    most = len(ss)
    curvature = sy.diagonal()
    lower = sy * after
    identity = torch.eye(most, dtype=ss.dtype).expand_as(lower)
    right = torch.cat([delta * identity, lower / curvature], dim=2)
    t = delta * ss + right[:, :, most:] @ lower.mT
    scale = t.diagonal(dim1=1, dim2=2).rsqrt()[:, :, None]
    factor, failed = torch.linalg.cholesky_ex(t * scale * scale.mT)
    if failed.any():
        return None
    half = torch.linalg.solve_triangular(factor, scale * right, upper=False)
    n: Tensor = half.mT @ half
    n[:, most:, most:].diagonal(dim1=1, dim2=2).sub_(1 / curvature)
    return n


class Pairs:
    """The newest M secant pairs (s, y), ‖s‖ = 1, of all chunks, with their inner products.

    Attributes:
        most: M.
        vectors: P, (2M, d): s₁ … s_M, y₁ … y_M; 0 where a place is empty.
        gram: P Pᵀ, (2M, 2M), float64 on the CPU.
        owner: (M,), the chunk that a pair was measured on, or `ALL`.
        pushes: pairs stored since the last `clear`; the next one's place is that modulo M.
        gamma: sᵀy / yᵀy of the newest pair that was stored, or None; `clear` keeps it.
    """

    def __init__(self, most: int, vectors: Tensor) -> None:
        self.most = most
        self.vectors = vectors
        self.gram = torch.zeros(2 * most, 2 * most, dtype=torch.float64)
        self.owner = torch.zeros(most, dtype=torch.int64)
        self.pushes = 0
        self.gamma: float | None = None

    def products(self, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return P [s y], (2M, 2), and [s y]ᵀ[s y], (2, 2): float64, CPU. One read of P."""
        both = torch.stack([s, y])
        joint = torch.cat([both @ self.vectors.T, both @ both.T], dim=1).cpu().double()
        return joint[:, :-2].T, joint[:, -2:]

    def matrices(self, chunks: int, delta: float) -> Tensor | None:
        """Return N_k of every chunk's B_k = δI − Pᵀ N_k P: (K, 2M, 2M), or None; see `compact`.

        B_k takes other chunks' pairs first, then its own and those of all chunks; oldest first in
        both. An empty place stands for a pair (e, e) of its own dimension e, which P leaves out.
        """
        most, places = self.most, torch.arange(self.most)
        last = (self.owner == torch.arange(chunks)[:, None]) | (self.owner == ALL)
        age = (self.pushes - 1 - places) % most
        rank = last * most - age
        ss, sy = self.gram[:most, :most], self.gram[:most, most:]
        if self.pushes < most:
            empty = torch.diag((places >= self.pushes).double())
            ss, sy = ss + empty, sy + empty
        return compact(ss, sy, rank[:, :, None] > rank[:, None, :], delta)

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
        place = self.pushes % self.most
        rows = [place, self.most + place]
        torch.div(s, math.sqrt(ss), out=self.vectors[rows[0]])
        torch.div(y, math.sqrt(ss), out=self.vectors[rows[1]])
        with_all = with_all / math.sqrt(ss)
        with_all[rows] = own / ss
        self.gram[:, rows] = with_all
        self.gram[rows] = with_all.T
        self.owner[place] = owner
        self.pushes += 1
        self.gamma = sy / yy
        return rows

    def clear(self) -> None:
        """Drop all pairs."""
        self.pushes = 0
        for tensor in (self.vectors, self.gram, self.owner):
            tensor.zero_()

    def small(self) -> dict[str, Any]:
        """Return everything but `vectors`, for a state dict."""
        return {
            "gram": self.gram,
            "owner": self.owner,
            "pushes": self.pushes,
            "gamma": self.gamma,
        }
