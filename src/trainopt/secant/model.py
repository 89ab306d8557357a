"""The linear model of the full gradient, Ĝ(w) = Σ p_k [c_k + B_k (w − u_k)] = A w + b."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .compact import Compact, identity
from .pairs import ALL, Pairs, Products


@dataclass(frozen=True)
class Surprise:
    """What a second look at a chunk says about the model as it was before, when asked.

    Attributes:
        gram: P Pᵀ as it was.
        delta: δ.
        with_pairs: [s y]ᵀ Pᵀ, (2, 2M).
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
        """N_k P s, (2M,), of B_k s = δ (s − Pᵀ N_k P s)."""
        return self.compact.dot(self.chunk, self.with_pairs[0])

    def residual(self) -> float:
        """Return ‖e‖, e = c' − (c_k + B_k (u' − u_k))."""
        (ss, sy), (_, yy) = self.own
        s_z, y_z = (self.with_pairs @ self.z).tolist()
        z_z = float(self.z @ (self.gram @ self.z))
        bs_bs = self.delta**2 * (ss - 2 * s_z + z_z)
        return math.sqrt(max(0.0, yy - 2 * self.delta * (sy - y_z) + bs_bs))

    def curvature(self) -> float:
        """Return sᵀB_k s."""
        return self.delta * (self.own[0][0] - float(self.with_pairs[0] @ self.z))


class Visit(NamedTuple):
    """A second look at a chunk's rows.

    Attributes:
        change: s = u' − u_k and y = c' − c_k, (2, d).
        surprise: what it says about the model as it was before.
    """

    change: Tensor
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
    products of the pairs with the points are kept, so that a chunk's end costs O((K + M) d) in a
    few matrix products, and O(K M³) for the B_k.

    Attributes:
        points: u_k, (K, d); 0 where the chunk wasn't seen.
        gradients: c_k, (K, d).
        seen: which chunks were.
        terms: (K + 1, 2M), P (r − u_k) and P Σ p_k c_k, with one r for each row of P.
        known: up to which push `terms` has the pairs' products; `at` puts in the others.
    """

    def __init__(
        self, shares: tuple[float, ...], pairs: int, vectors: Tensor, *, scale: float, lr: float
    ) -> None:
        count = len(shares)
        self.shares = shares
        self.scale, self.lr = scale, lr
        visits = vectors[: 2 * count].view(count, 2, -1)
        self.points, self.gradients = visits.unbind(dim=1)
        self._visits, self._points = visits.unbind(), self.points.unbind()
        self._small_weights = torch.tensor(shares, dtype=torch.float64)  # the shares
        self._weights = self._small_weights.to(vectors)  # the same where the vectors are
        self.pairs = Pairs(pairs, self._small_weights, vectors[2 * count :])
        self.seen = [False] * count
        self.terms = torch.zeros(count + 1, 2 * pairs, dtype=torch.float64)
        self.known = 0
        self._terms = self.terms.unbind()
        self._found: tuple[Compact, Tensor] | None = None

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
        before, _ = self._matrices()
        visit, last = torch.stack([point, gradient]), self._visits[chunk]
        change = visit - last
        with_pairs, own = products = self.pairs.products(change)
        last.copy_(visit)
        moved, turned = with_pairs.unbind()
        self._terms[chunk].sub_(moved)
        self._terms[-1].add_(turned, alpha=self.shares[chunk])
        if not self.seen[chunk]:
            self.seen[chunk] = True
            return None
        gram = self.pairs.gram.clone()
        surprise = Surprise(gram, self.delta, with_pairs, own, before, chunk)
        if push:
            self._push(chunk, change, products)
        return Visit(change, surprise)

    def push_all(self, s: Tensor, y: Tensor) -> None:
        """Put in one pair of all chunks together: the sums over k of p_k s_k and p_k y_k."""
        both = torch.stack([s, y])
        self._push(ALL, both, self.pairs.products(both))

    def _push(self, owner: int, both: Tensor, products: Products) -> None:
        if self.pairs.push(both, owner, products):
            self._found = None

    def clear(self) -> None:
        """Drop the pairs; keep the points and gradients."""
        self.pairs.clear()
        self.terms.zero_()
        self.known = 0
        self._found = None

    def forget(self) -> None:
        """Drop everything, as if no chunk had been seen."""
        self.clear()
        self.points.zero_()
        self.gradients.zero_()
        self.seen = [False] * len(self.seen)

    # What is known ----------------------------------------------------------------------------

    def at(self, w: Tensor, chunk: int) -> Move:
        """Return Ĝ and the step −A⁻¹Ĝ at w, (d,).

        Args:
            w: the point.
            chunk: the chunk seen last; nothing has to be multiplied where w is its point.
        """
        compact, a = self._matrices()
        delta, pairs = self.delta, self.pairs
        near = w - self.points
        spread = max(torch.linalg.vector_norm(near, dim=1).tolist())
        gradient = torch.mv(self.gradients.T, self._weights)
        if self.known < pairs.pushes:
            changed, rows = pairs.since(self.known)
            here = torch.mm(torch.cat([near, gradient.unsqueeze(0)]), changed.T)
            self.terms[:, rows] = here.to(self.terms)
            self.known = pairs.pushes
        offsets = self.terms[:-1] - self._terms[chunk]  # P (w − u_k), (K, 2M)
        if not torch.equal(w, self._points[chunk]):
            offsets += torch.mv(pairs.vectors, near[chunk]).to(offsets)
        mean = torch.mv(offsets.T, self._small_weights)
        z = compact.mean_dot(offsets, mean)  # Σ p_k N_k P (w − u_k)
        in_pairs = torch.add(mean, self._terms[-1], alpha=1 / delta)
        in_pairs.addmv_(pairs.gram, z, alpha=-1)  # P Ĝ/δ
        # Woodbury: A⁻¹ = (I − Pᵀ (A' P Pᵀ − I)⁻¹ A' P) / δ, A' = Σ p_k N_k
        matrix = torch.addmm(identity(len(a)), a, pairs.gram, beta=-1)
        x = torch.linalg.solve_ex(matrix, torch.mv(a, in_pairs))[0]
        if not math.isfinite(x.sum()):  # or singular
            x = torch.zeros_like(x)
        weights = torch.stack([z, x]).to(w)
        in_z, in_x = torch.mm(weights, pairs.vectors).unbind()  # the second and last read of P
        gradient.addmv_(near.T, self._weights, alpha=delta).sub_(in_z, alpha=delta)
        return Move(gradient, in_x.sub_(gradient, alpha=1 / delta), spread)

    def spread(self, w: Tensor) -> float:
        """Return the largest ‖w − u_k‖."""
        return float(torch.linalg.vector_norm(w - self.points, dim=1).max())

    @property
    def delta(self) -> float:
        """δ, the curvature where no pair says another."""
        return self.scale * (self.pairs.newest or 1 / self.lr)

    def _matrices(self) -> tuple[Compact, Tensor]:
        """Return the N_k, and Σ p_k N_k, (2M, 2M)."""
        if self._found is None:
            try:
                found = self.pairs.matrices(self.delta)
            except ArithmeticError:
                self.clear()
                return self._matrices()
            self._found = found, found.mean()
        return self._found

    # What is kept -----------------------------------------------------------------------------

    def small(self) -> dict[str, Any]:
        """Return everything that isn't of size d, for a state dict."""
        kept = {"seen": list(self.seen), "terms": self.terms, "known": self.known}
        return {**kept, "lr": self.lr, **self.pairs.small()}

    def load_small(self, small: dict[str, Any]) -> None:
        """Take what `small` returned."""
        pairs = self.pairs
        held = {"terms": self.terms}
        held |= {name: getattr(pairs, name) for name in ("gram", "curvature", "rank")}
        for name, own in held.items():
            if small[name].shape != own.shape:
                raise ValueError(
                    f"{name} in the state dict has the shape {tuple(small[name].shape)} and not "
                    f"{tuple(own.shape)}: load it with the plan and pairs it was saved with."
                )
            own.copy_(small[name])
        pairs.pushes, pairs.newest = small["pushes"], small["newest"]
        self.lr, self.seen, self.known = small["lr"], list(small["seen"]), small["known"]
        self._found = None
