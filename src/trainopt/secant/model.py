"""The linear model of the full gradient, Ĝ(w) = Σ p_k [c_k + B_k (w − u_k)] = A w + b."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .compact import Compact
from .pairs import ALL, Pairs

TINY = 1e-100  # in place of the length 0 of an empty place


@dataclass(frozen=True)
class Surprise:
    """What a second look at a chunk says about the model as it was before, when asked.

    Attributes:
        gram: P Pᵀ as it was.
        delta: δ.
        with_pairs: P [s y], (2M, 2).
        own: [s y]ᵀ[s y].
        compact: the N of all chunks.
        chunk: k.
    """

    gram: Tensor
    delta: float
    with_pairs: Tensor
    own: list[list[float]]
    compact: Compact
    chunk: int

    @cached_property
    def z(self) -> Tensor:
        """N_k P s, (2M,), of B_k s = δ s − Pᵀ N_k P s."""
        return self.compact.dot(self.chunk, self.with_pairs[:, 0])

    def residual(self) -> float:
        """Return ‖e‖, e = c' − (c_k + B_k (u' − u_k))."""
        (ss, sy), (_, yy) = self.own
        z_ps, z_py = (self.z @ self.with_pairs).tolist()
        z_z = float(self.z @ (self.gram @ self.z))
        bs_bs = self.delta**2 * ss - 2 * self.delta * z_ps + z_z
        y_bs = self.delta * sy - z_py
        return math.sqrt(max(0.0, yy - 2 * y_bs + bs_bs))

    def curvature(self) -> float:
        """Return sᵀB_k s."""
        return self.delta * self.own[0][0] - float(self.z @ self.with_pairs[:, 0])


class Visit(NamedTuple):
    """A second look at a chunk's rows.

    Attributes:
        s: u' − u_k, (d,).
        y: c' − c_k, (d,).
        surprise: what it says about the model as it was before.
    """

    s: Tensor
    y: Tensor
    surprise: Surprise


class Move(NamedTuple):
    """The model at one point.

    Attributes:
        gradient: Ĝ(w), (d,).
        step: −A⁻¹ Ĝ(w), (d,).
        spread: the largest ‖w − u_k‖.
    """

    gradient: Tensor
    step: Tensor
    spread: float


class Model:
    """Mean point u_k and mean gradient c_k of each chunk, and the pairs that make B_k of them.

    Everything of size d is in `vectors`, (2K + 2M, d); what is small is float64 on the CPU. The
    products of the pairs with the points are kept, so that a chunk's end costs O((K + M) d) in four
    matrix products, and O(K M³) for the B_k.

    Attributes:
        points: u_k, (K, d); 0 where the chunk wasn't seen.
        gradients: c_k, (K, d).
        seen: which chunks were.
    """

    def __init__(
        self, shares: tuple[float, ...], pairs: int, vectors: Tensor, *, scale: float, lr: float
    ) -> None:
        count = len(shares)
        self.shares = shares
        self.scale, self.lr = scale, lr
        self.points, self.gradients = vectors[:count], vectors[count : 2 * count]
        self._small_weights = torch.tensor(shares, dtype=torch.float64)  # the shares
        self._weights = self._small_weights.to(vectors)  # the same where the vectors are
        self.pairs = Pairs(pairs, self._small_weights, vectors[2 * count :])
        self.seen = [False] * count
        # P (u_k − r) with one r for each row of P, and P Σ p_k c_k: the terms of Ĝ in P's basis.
        self.offsets = torch.zeros(2 * pairs, count, dtype=torch.float64)
        self.slopes = torch.zeros(2 * pairs, dtype=torch.float64)
        self._known: tuple[Compact, Tensor] | None = None
        self._mean: Tensor | None = None

    # What is seen -----------------------------------------------------------------------------

    def visit(self, chunk: int, point: Tensor, gradient: Tensor, push: bool = True) -> Visit | None:
        """Put in the mean point and gradient of a chunk's rows; train its B_k on the residual.

        Args:
            chunk: which one was read.
            point: u', the mean point of its steps, (d,).
            gradient: c', the mean gradient of its rows, (d,).
            push: whether the secant pair is kept.

        Returns:
            What the chunk says about the model, or None where it wasn't seen before.
        """
        both = torch.stack([point - self.points[chunk], gradient - self.gradients[chunk]])
        products = self.pairs.products(both)
        visit = None
        if self.seen[chunk]:
            visit = Visit(both[0], both[1], self._surprise(chunk, products))
        moved, turned = products[0].unbind(dim=1)
        self.offsets[:, chunk].add_(moved)
        self.slopes.add_(turned, alpha=self.shares[chunk])
        self.points[chunk], self.gradients[chunk] = point, gradient
        self._mean = None
        if visit and push:
            self._push(chunk, both, products)
        self.seen[chunk] = True
        return visit

    def push_all(self, s: Tensor, y: Tensor) -> None:
        """Put in one pair of all chunks together: the sums over k of p_k s_k and p_k y_k."""
        both = torch.stack([s, y])
        self._push(ALL, both, self.pairs.products(both))

    def _push(self, owner: int, both: Tensor, products: tuple[Tensor, Tensor]) -> None:
        rows = self.pairs.push(both, owner, products)
        if rows is None:
            return
        # Differences from any one point (the last chunk's, for `ALL`): the points themselves would
        # cancel in Ĝ, but not their rounding.
        near = self.points - self.points[owner]
        changed = self.pairs.vectors[rows]
        self.offsets[rows] = (changed @ near.T).cpu().double()
        self.slopes[rows] = (changed @ (self._mean_gradient())).cpu().double()
        self._known = None

    def _surprise(self, chunk: int, products: tuple[Tensor, Tensor]) -> Surprise:
        with_pairs, own = products
        compact, _ = self._matrices()
        gram = self.pairs.gram.clone()
        return Surprise(gram, self.delta, with_pairs, own.tolist(), compact, chunk)

    def clear(self) -> None:
        """Drop the pairs; keep the points and gradients."""
        self.pairs.clear()
        self.offsets.zero_()
        self.slopes.zero_()
        self._known = None

    def forget(self) -> None:
        """Drop everything, as if no chunk had been seen."""
        self.clear()
        self.points.zero_()
        self.gradients.zero_()
        self.seen = [False] * len(self.seen)
        self._mean = None

    # What is known ----------------------------------------------------------------------------

    def at(self, w: Tensor, chunk: int) -> Move:
        """Return Ĝ and the step −A⁻¹Ĝ at w, (d,).

        Args:
            w: the point.
            chunk: the chunk seen last; nothing has to be multiplied where w is its point.
        """
        delta = self.delta
        near = w - self.points
        spread = float(torch.linalg.vector_norm(near, dim=1).max())
        gradient = torch.addmv(self._mean_gradient(), near.T, self._weights, alpha=delta)
        self._mean = None  # it was kept for this
        compact, a = self._matrices()
        here = self.offsets[:, chunk]
        if not torch.equal(w, self.points[chunk]):
            here = here + (self.pairs.vectors @ near[chunk]).cpu().double()
        offsets = here[:, None] - self.offsets  # P (w − u_k), (2M, K)
        mean = offsets @ self._small_weights
        z = compact.mean_dot(offsets, mean)  # Σ p_k N_k P (w − u_k)
        gram = self.pairs.gram
        in_pairs = torch.add(self.slopes, mean, alpha=delta).addmv_(gram, z, alpha=-1)  # P Ĝ
        # Woodbury: A⁻¹ = I/δ + Pᵀ (I − A' P Pᵀ/δ)⁻¹ A' P / δ², A' = Σ p_k N_k; the rows of P are
        # taken at length 1, so that the scale of F doesn't choose the pivots.
        length = gram.diagonal().sqrt().clamp_(min=TINY)
        matrix = (a * length[:, None]) @ (gram / (-delta * length))
        matrix.diagonal().add_(1)
        x, failed = torch.linalg.solve_ex(matrix, length * (a @ in_pairs))
        x /= length
        if failed or not math.isfinite(x.sum()):
            x = torch.zeros_like(x)
        weights = torch.stack([z, x / -(delta**2)]).to(gradient)
        in_full = weights @ self.pairs.vectors  # the second and last read of P
        gradient -= in_full[0]
        return Move(gradient, in_full[1].sub_(gradient, alpha=1 / delta), spread)

    def spread(self, w: Tensor) -> float:
        """Return the largest ‖w − u_k‖."""
        return float(torch.linalg.vector_norm(w - self.points, dim=1).max())

    @property
    def delta(self) -> float:
        """δ, the curvature where no pair says another."""
        return self.scale / (self.pairs.gamma or self.lr)

    def _mean_gradient(self) -> Tensor:
        """Return Σ p_k c_k, (d,)."""
        if self._mean is None:
            self._mean = self._weights @ self.gradients
        return self._mean

    def _matrices(self) -> tuple[Compact, Tensor]:
        """Return the N_k, and Σ p_k N_k, (2M, 2M)."""
        if self._known is None:
            try:
                found = self.pairs.matrices(self.delta)
            except ArithmeticError:
                self.clear()
                return self._matrices()
            self._known = found, found.mean()
        return self._known

    # What is kept -----------------------------------------------------------------------------

    def small(self) -> dict[str, Any]:
        """Return everything that isn't of size d, for a state dict."""
        kept = {"seen": list(self.seen), "offsets": self.offsets, "slopes": self.slopes}
        return {**kept, "lr": self.lr, **self.pairs.small()}

    def load_small(self, small: dict[str, Any]) -> None:
        """Take what `small` returned."""
        held = {"offsets": self.offsets, "slopes": self.slopes}
        pairs = self.pairs
        held |= {"gram": pairs.gram, "rank": pairs.rank}
        for name, own in held.items():
            if small[name].shape != own.shape:
                raise ValueError(
                    f"{name} in the state dict has the shape {tuple(small[name].shape)} and not "
                    f"{tuple(own.shape)}: load it with the plan and pairs it was saved with."
                )
            own.copy_(small[name])
        pairs.pushes, pairs.gamma = small["pushes"], small["gamma"]
        self.lr, self.seen = small["lr"], list(small["seen"])
        self._known = self._mean = None
