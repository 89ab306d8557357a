"""The compact form of the BFGS matrices of K chunks, which differ in the order of their pairs."""

from __future__ import annotations

import torch
from torch import Tensor


class Compact:
    """N_k of B_k = δI − Pᵀ N_k P, P = [S; Y], k < K: what they do, and not what they are.

    B_k is what BFGS makes of δI when it takes the pairs in an order of its own, in the compact form
    of Byrd, Nocedal and Schnabel (1994). With D the diagonal of S Yᵀ, L its entries where pair i is
    taken after pair j, T = δ S Sᵀ + L D⁻¹ Lᵀ = C Cᵀ and H = C⁻¹ [δI, L D⁻¹], N = Hᵀ H, less D⁻¹ in
    its last block. T needs no scaling: Cholesky's factor is as good under any.

    Args:
        ss: S Sᵀ, (M, M), float64.
        sy: S Yᵀ, (M, M), float64, its diagonal > 0.
        after: (K, M, M), whether order k takes pair i after pair j.
        delta: δ > 0.
        roots: √p_k, (K, 1, 1), float64, of the mean over k.

    Raises:
        ArithmeticError: a T isn't positive definite, which only rounding can do.
    """

    def __init__(self, ss: Tensor, sy: Tensor, after: Tensor, delta: float, roots: Tensor) -> None:
        most = len(ss)
        self.roots = roots
        self.inverse = sy.diagonal().reciprocal()  # D⁻¹
        lower = sy * after
        right = lower.new_zeros(*lower.shape[:2], 2 * most)
        right[:, :, :most].diagonal(dim1=1, dim2=2).fill_(delta)
        scaled = torch.mul(lower, self.inverse, out=right[:, :, most:])
        factor, failed = torch.linalg.cholesky_ex(torch.baddbmm(delta * ss, scaled, lower.mT))
        if failed.any():
            raise ArithmeticError("the pairs contradict each other by more than rounding allows.")
        right.mul_(roots)
        half = torch.linalg.solve_triangular(factor, right, upper=False)  # √p_k H_k
        self.rows = half.reshape(-1, 2 * most)
        self.half = self.rows.view(half.shape)

    def dot(self, chunk: int, x: Tensor) -> Tensor:
        """Return N_k x, (2M,), of one chunk."""
        half = self.half[chunk] / self.roots[chunk]
        return self._less(half.T @ (half @ x), x)

    def mean_dot(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return Σ p_k N_k x_k, (2M,), of vectors x_k, (2M, K), whose `mean` is Σ p_k x_k."""
        inner = torch.bmm(self.half, x.T[:, :, None])
        return self._less(self.rows.T @ inner.view(-1), mean)

    def mean(self) -> Tensor:
        """Return Σ p_k N_k, (2M, 2M)."""
        found: Tensor = self.rows.T @ self.rows
        found.diagonal()[len(self.inverse) :].sub_(self.inverse)
        return found

    def _less(self, found: Tensor, x: Tensor) -> Tensor:
        most = len(self.inverse)
        found[most:].addcmul_(self.inverse, x[most:], value=-1)
        return found
