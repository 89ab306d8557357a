"""A = a cᵀ: RankOne-TO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .form import Form, norm

Init = Literal["ones", "normal"] | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RankOne(Form):
    """A = a cᵀ, 2 d numbers, never formed (Algorithm 3). M = (cᵀx)² + ‖x‖² a aᵀ.

    Args:
        start: c at the start; the setting `init` of a param group. a starts at 0, so that A₀ = 0; c
            must not, or A stays 0 for ever. "ones": 1/√d each; "normal": N(0, 1/d); or a function
            of the parameter (of its real view when complex) that returns a tensor of its shape.

    Raises:
        ValueError: `start` is none of these, or returned numbers that can't learn.
    """

    variables = ("a", "c")
    like_weights = True
    rowwise = True

    start: Init = field(default="ones", metadata={"setting": "init"})

    def __post_init__(self) -> None:
        if not callable(self.start) and self.start not in ("ones", "normal"):
            raise ValueError(
                f"init={self.start!r} is not known: give 'ones', 'normal' or a function."
            )

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        a, c = torch.zeros_like(w), torch.zeros_like(w)
        if callable(self.start):
            c.copy_(self.start(w))
            if not c.isfinite().all() or (c.numel() and not c.any()):
                raise ValueError(
                    "init returned a c without a finite number other than 0 for the parameter of "
                    f"shape {tuple(w.shape)}: A would stay 0 for ever, or NaN."
                )
        elif self.start == "ones":
            c.fill_(max(numel, 1) ** -0.5)
        else:
            c.normal_(std=max(numel, 1) ** -0.5)
        return a, c

    def apply(self, x: Tensor, a: Tensor, c: Tensor) -> Tensor:
        return a * (c * x).sum()

    def gain(self, x: Tensor, a: Tensor, c: Tensor) -> Tensor:
        return self.least_gain(x, a, c) + x.square().sum() * a.square().sum()

    def least_gain(self, x: Tensor, a: Tensor, c: Tensor) -> Tensor:
        return (c * x).sum().square()

    def norm(self, x: Tensor, a: Tensor, c: Tensor) -> Tensor:
        return norm(a) * norm(c)
