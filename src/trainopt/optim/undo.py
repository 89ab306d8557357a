"""A step that can be taken back: copies of everything that it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .estimator import Estimator


class Undo:
    """Weights, variables and clocks before a step, as copies: (1 + state) d numbers while it lives.

    Args:
        optimizer: that steps in place, with its state made.
        params: those of its parameters that have a gradient, which are all that a step changes.
    """

    def __init__(self, optimizer: Estimator, params: list[Tensor]) -> None:
        self._changed = [p.detach() for p in params]
        self._changed += [value for p in params for value in optimizer.state[p].values()]
        self._changed += [group["step"] for group in optimizer.param_groups]
        self._kept = [x.clone() for x in self._changed]

    @torch.no_grad()
    def __call__(self) -> None:
        """Take the step back: every number is what it was."""
        for x, kept in zip(self._changed, self._kept, strict=True):
            x.copy_(kept)
