"""The sums over the steps of a chunk: its mean point and its mean gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

from .control import Progress
from .layout import Layout


class Reading:
    """What has been read of the present chunk; how much of it, `Progress` knows.

    Attributes:
        points: Σ r w over its steps of r rows, (d,); in the secant phase, where the weights rest,
            the point itself.
        gradients: Σ r g, (d,).
    """

    def __init__(self, layout: Layout, points: Tensor, gradients: Tensor) -> None:
        self.points, self.gradients = points, gradients
        self._layout = layout
        self._pieces = layout.views(gradients)

    def begin(self, progress: Progress) -> None:
        """Start the sums."""
        progress.begin_chunk()
        progress.reached = [False] * len(self._pieces)
        self.gradients.zero_()
        if progress.secant:
            self.points.copy_(self._layout.weights())
        else:
            self.points.zero_()

    def add(
        self,
        progress: Progress,
        rows: int,
        grads: Sequence[Tensor | None],
        norm: float,
        loss: float,
    ) -> None:
        """Add one step's gradient: O(d).

        Args:
            progress: the clock.
            rows: r, how many rows the gradient is the mean of.
            grads: the gradient of each parameter, real; None is 0.
            norm: ‖g‖. If it isn't finite the chunk is spoiled, and its sums stay as they are.
            loss: the mean loss of the rows; NaN where it isn't known.
        """
        progress.spoiled |= not math.isfinite(norm)
        if progress.spoiled:
            return
        if not progress.secant:
            self.points.add_(self._layout.weights(), alpha=rows)
        given = [(s, g) for s, g in zip(self._pieces, grads, strict=True) if g is not None]
        if given:
            sums, terms = zip(*given, strict=True)
            torch._foreach_add_(list(sums), list(terms), alpha=rows)
        reached = zip(progress.reached, grads, strict=True)
        progress.reached = [already or g is not None for already, g in reached]
        progress.rows += rows
        progress.norms += rows * norm
        progress.losses += rows * loss

    def mean_gradient(
        self, progress: Progress, point: Tensor, decay: Sequence[float]
    ) -> tuple[Tensor, float]:
        """Return the mean gradient at `point`, λw of the weight decay included, and ½λ‖w‖².

        The second is 0 where the losses aren't known.

        As λw is linear in w, adding it once at the mean point is what adding it at each step is. A
        parameter without a gradient in the chunk, a frozen one, doesn't decay: `torch.optim` leaves
        it alone, too.

        Args:
            progress: the clock.
            point: the mean point, (d,).
            decay: λ of each parameter.
        """
        gradient, penalty, start = self.gradients / progress.rows, 0.0, 0
        if not any(decay):
            return gradient, penalty
        rates = [
            rate if reached else 0.0 for rate, reached in zip(decay, progress.reached, strict=True)
        ]
        for rate, run in groupby(zip(rates, self._layout.sizes, strict=True), itemgetter(0)):
            size = sum(numbers for _, numbers in run)
            if rate:
                part = point[start : start + size]
                gradient[start : start + size].add_(part, alpha=rate)
                if not math.isnan(progress.losses):
                    penalty += rate / 2 * float(part @ part)
            start += size
        return gradient, penalty
