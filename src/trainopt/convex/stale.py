"""What is left of SecantTO without a part of its model: for its ablations, and for nothing else."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainopt.secant import Plan

_LEAST_COSINE = 1e-6


@dataclass
class Stale:
    """Means of the gradients of chunks, each of the pass in which its chunk was last read.

    As in SecantTO, two passes of SGD come first; then the weights rest while a chunk is read, and
    move at its end. The gradient is Σ p_k c_k, where SecantTO has Σ p_k [c_k + B_k (w − u_k)]:

    - `shared`: with one B for all chunks, of all pairs in the order in which they came, the model's
      zero is w ← Σ p_k u_k − B⁻¹ Σ p_k c_k.
    - `pairs` alone: without the correction, w ← w − B⁻¹ Σ p_k c_k.
    - neither: w ← w − lr Σ p_k c_k, SAG with chunks for rows.

    A step is no longer than three times the last one, or the distance to the farthest u_k.

    Attributes:
        plan: of a pass.
        lr: the rate of SGD, lr/(1 + passes), and of SAG.
        pairs: how many B is made of; 0 is SAG.
        shared: whether B corrects the gradients too.
    """

    plan: Plan
    lr: float
    pairs: int
    shared: bool
    _kept: deque[tuple[Tensor, Tensor]] = field(init=False)
    _steps: int = 0

    def __post_init__(self) -> None:
        self._kept = deque(maxlen=self.pairs)

    def step(self, w: Tensor, gradient: Tensor) -> Tensor:
        """The next weights, (d,), from the gradient of the plan's next mini-batch at w."""
        place = self.plan.places[self._steps % self.plan.steps]
        passes, self._steps = self._steps / self.plan.steps, self._steps + 1
        if self._steps == 1:
            self._points = w.new_zeros(self.plan.chunks, len(w))
            self._means = torch.zeros_like(self._points)
            self._shares = torch.tensor(self.plan.shares).to(w)
        if place.first:
            self._rows, self._point, self._mean = 0, torch.zeros_like(w), torch.zeros_like(w)
        self._rows += place.rows
        self._point += place.rows * w
        self._mean += place.rows * gradient
        if place.last:
            self._see(place.chunk, seen=passes >= 1)
        if passes < 2:
            w = w - self.lr / (1 + passes) * gradient
        if self._steps < 2 * self.plan.steps or not place.last:
            return w
        return self._move(w)

    def _see(self, chunk: int, seen: bool) -> None:
        point, mean = self._point / self._rows, self._mean / self._rows
        s, y = point - self._points[chunk], mean - self._means[chunk]
        if seen and s @ y > _LEAST_COSINE * s.norm() * y.norm() > 0:
            self._kept.append((s, y))
        self._points[chunk], self._means[chunk] = point, mean

    def _move(self, w: Tensor) -> Tensor:
        mean = self._shares @ self._means
        if not self.pairs:
            return w - self.lr * mean
        start = self._shares @ self._points if self.shared else w
        step = start - self._inverse(mean) - w
        spread = (w - self._points).norm(dim=1).max()
        if self._steps <= 2 * self.plan.steps:
            self._radius = 3 * spread
        length = step.norm()
        if length > self._radius:
            step = step * (self._radius / length)
        self._radius = 3 * torch.maximum(step.norm(), spread)
        return w + step

    def _inverse(self, gradient: Tensor) -> Tensor:
        """B⁻¹ g by the two loops of L-BFGS, over δI with half the curvature of the newest pair."""
        if not self._kept:
            return self.lr * gradient
        q, parts = gradient.clone(), []
        for s, y in reversed(self._kept):
            part = (s @ q) / (s @ y)
            parts.append(part)
            q -= part * y
        s, y = self._kept[-1]
        q *= 2 * (s @ y) / (y @ y)
        for (s, y), part in zip(self._kept, reversed(parts), strict=True):
            q += (part - (y @ q) / (s @ y)) * s
        return q
