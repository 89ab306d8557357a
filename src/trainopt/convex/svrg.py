"""SVRG: variance reduction by a full gradient at an anchor, around any torch optimizer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], float]
"""Sets the gradients of all parameters at their present values, and returns the loss."""


class SVRG:
    """Steps along g_B(w) − g_B(w̃) + ∇F(w̃), whose variance vanishes as w and w̃ do (Johnson, Zhang).

    Call `anchor(full)` now and then, once per epoch or two, and `step(batch)` in between. A step
    costs two mini-batch gradients, an anchor a full one. Memory: 2 d numbers, the anchor w̃ and
    its gradient.

    Args:
        optimizer: takes the steps; SGD, or any other that reads `.grad`.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._params: list[Tensor] = [p for g in optimizer.param_groups for p in g["params"]]
        self._anchor: list[Tensor] = []
        self._full: list[Tensor] = []

    def anchor(self, full: Closure) -> float:
        """Take the present weights as w̃; `full` sets the gradients of the whole objective."""
        loss = _with_gradients(full)
        self._anchor = [p.detach().clone() for p in self._params]
        self._full = self._gradients()
        return loss

    def step(self, batch: Closure) -> float:
        """Take a step; `batch` sets the gradients of one mini-batch and is called twice.

        Raises:
            RuntimeError: there is no anchor yet.
        """
        if not self._anchor:
            raise RuntimeError("no anchor yet: call anchor() with a closure of the full gradient.")
        present = [p.detach().clone() for p in self._params]
        self._assign(self._anchor)
        _with_gradients(batch)
        old = self._gradients()
        self._assign(present)
        loss = _with_gradients(batch)
        for p, there, full in zip(self._params, old, self._full, strict=True):
            assert p.grad is not None
            p.grad.sub_(there).add_(full)
        self.optimizer.step()
        return loss

    def _gradients(self) -> list[Tensor]:
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self._params]

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for p, value in zip(self._params, values, strict=True):
            p.copy_(value)


def _with_gradients(closure: Closure) -> float:
    with torch.enable_grad():
        return closure()
