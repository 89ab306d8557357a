"""Kernels that take a whole step at the least traffic to memory: what `fused` runs.

`cpu` calls compiled C++ (step.cpp, built at the first use), `cuda` calls Triton. Both have one
function per rule of `trainopt.rules`, which take a `Batch` and `Rates`, change weights and
variables in place, and return ‖e‖².
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor


class Rates(NamedTuple):
    """What a step is taken with.

    Attributes:
        lr, alpha, beta: γ, α, β at this step: floats, or 0-dim tensors on the device (CUDA only).
        weight_decay: decoupled.
        sign: of the gradient: 1, or −1 to maximize.
        descends: whether the weights move; without it only the variables learn.
    """

    lr: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    weight_decay: float
    sign: float
    descends: bool


class Batch(NamedTuple):
    """Tensors of one device and one pair of dtypes, each dense, with the strides of its weight.

    Attributes:
        w: weights.
        g: their gradients, in the dtype of the weights.
        state: a list of tensors per variable of the rule, in one dtype.
        estimate: where Ĝ goes, in that dtype; None where it isn't kept.
    """

    w: list[Tensor]
    g: list[Tensor]
    state: list[list[Tensor]]
    estimate: list[Tensor] | None

    def single(self) -> Iterator[Batch]:
        """The same as batches of one tensor each."""
        for i, w in enumerate(self.w):
            estimate = None if self.estimate is None else [self.estimate[i]]
            yield Batch([w], [self.g[i]], [[tensors[i]] for tensors in self.state], estimate)
