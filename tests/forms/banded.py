"""A form of A of one's own, whole: a band of numbers along the diagonal."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainopt import Form


@dataclass(frozen=True)
class Banded(Form):
    """A with `width` diagonals on each side of its own: neighbours in w act on each other.

    Args:
        width: diagonals on each side, ≥ 0; (2·width + 1) d numbers.
    """

    variables = ("bands",)
    rowwise = True

    width: int = 1

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        return (w.new_zeros(w.numel(), 2 * self.width + 1),)

    def apply(self, x: Tensor, bands: Tensor) -> Tensor:
        return (bands * self._windows(x)).sum(1).reshape(x.shape)

    def gain(self, x: Tensor, bands: Tensor) -> Tensor:
        return self._windows(x).square().sum(1).reshape(x.shape)

    def _windows(self, x: Tensor) -> Tensor:
        """Row i holds what row i of A reads: xᵢ and its neighbours, 0 beyond the ends."""
        padded = torch.nn.functional.pad(x.reshape(-1), (self.width, self.width))
        return padded.unfold(0, 2 * self.width + 1, 1)
