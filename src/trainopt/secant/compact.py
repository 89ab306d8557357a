"""The compact form of the BFGS matrices of K chunks, which differ in the order of their pairs."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def identity(size: int) -> Tensor:
    """Return I, float64; not to be written to."""
    return torch.eye(size, dtype=torch.float64)


class Compact:
    """N_k of B_k = δ (I − Pᵀ N_k P), k < K, where P has the pairs' directions as its rows.

    P = [S; Y], every s and every y of length 1. B_k is what BFGS makes of δI when it takes the
    pairs in an order of its own, in the compact form of Byrd, Nocedal and Schnabel (1994). With
    κ = yᵀy / (δ sᵀy) of each pair, as it was measured, and L the entries of S Yᵀ where pair i is
    taken after pair j: S Sᵀ + L κ Lᵀ = C Cᵀ, H = C⁻¹ [I, L κ], and N = Hᵀ H, less κ in its last
    block. The scales of F and of the weights are in none of them.

    Args:
        ss: S Sᵀ, (M, M), float64.
        sy: S Yᵀ, (M, M), float64.
        kappa: (2M,), κ after M zeros.
        rank: (K, M), the place of each pair in order k.
        roots: √p_k, (K, 1, 1), float64, of the mean over k.
        right: (K, M, 2M), float64, I in the first half; the second is written to.

    Raises:
        ArithmeticError: S Sᵀ + L κ Lᵀ isn't positive definite, which only rounding can do.
    """

    def __init__(
        self, ss: Tensor, sy: Tensor, kappa: Tensor, rank: Tensor, roots: Tensor, right: Tensor
    ) -> None:
        most = len(ss)
        self.kappa, self.roots = kappa, roots
        lower = sy * (rank.unsqueeze(2) > rank.unsqueeze(1))
        scaled = torch.mul(lower, kappa[most:], out=right.narrow(2, most, most))
        factor, failed = torch.linalg.cholesky_ex(torch.baddbmm(ss, scaled, lower.mT))
        if failed.any():
            raise ArithmeticError("the pairs contradict each other by more than rounding allows.")
        # From the right, so that what is found lies in memory as one matrix, (KM, 2M).
        found = torch.linalg.solve_triangular(factor.mT, right.mT, upper=True, left=False)
        self.half = found.mT.mul_(roots)  # √p_k H_k
        self.rows = self.half.reshape(-1, 2 * most)

    def dot(self, chunk: int, x: Tensor) -> Tensor:
        """Return N_k x, (2M,), of one chunk."""
        half = self.half[chunk] / self.roots[chunk]
        found: Tensor = half.T @ (half @ x) - self.kappa * x
        return found

    def mean_dot(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return Σ p_k N_k x_k, (2M,), of vectors x_k, (K, 2M), whose `mean` is Σ p_k x_k."""
        inner = torch.bmm(self.half, x.unsqueeze(2))
        found: Tensor = torch.addmv(self.kappa * mean, self.rows.T, inner.view(-1), beta=-1)
        return found

    def mean(self) -> Tensor:
        """Return Σ p_k N_k, (2M, 2M)."""
        last = self.kappa * identity(len(self.kappa))
        found: Tensor = torch.addmm(last, self.rows.T, self.rows, beta=-1)
        return found
