"""Kernels that take a step at the least traffic to memory: what `fused` runs.

`cpu` calls compiled C++ (step.cpp, built at the first use), `cuda` calls Triton. Each has a
function for the forms of A that it knows, under the paper's learning rule. A `Batch` is prepared
first, which finds out whether a kernel may have its memory and changes nothing; the kernel then
changes weights and variables in place and returns ‖e‖. `gradient_norm` only reads: it returns ‖g‖.

Nothing is kept between two steps: a kernel computes from what the tensors hold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Why a kernel can't have tensors whose shapes, dtypes and layouts are right.
NO_MEMORY = "a tensor has no memory"
SHARED_MEMORY = "two tensors share memory"


class StepRates(NamedTuple):
    """What a step is taken with.

    Attributes:
        lr, alpha, beta: γ, α, β at this step: floats, or 0-dim tensors on the device (CUDA only).
        weight_decay: decoupled.
        sign: of the gradient: 1, or −1 to maximize.
        descends: whether the weights move; without it only the variables learn.
        keep_estimate: whether Ĝ is kept for who asks for it.
    """

    lr: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    weight_decay: float
    sign: float
    descends: bool
    keep_estimate: bool


class Batch(NamedTuple):
    """Tensors of one device and one pair of dtypes, each dense, with the strides of its weight.

    Attributes:
        w: weights.
        g: their gradients, in the dtype of the weights.
        state: a list of tensors per variable of the rule, in one dtype. Each has the shape of its
            weight; a dense A is contiguous, (numbers of its weight, columns).
        estimate: where Ĝ goes, in the dtype that is computed in; None where it isn't kept.
        first: number of the first tensor of each vector w, and the number of all tensors.
        x: what a dense A reads, (columns,), contiguous, in the dtype that is computed in; None
            for the other forms.
    """

    w: list[Tensor]
    g: list[Tensor]
    state: list[list[Tensor]]
    estimate: list[Tensor] | None
    first: list[int]
    x: Tensor | None


def computed_in(param: torch.dtype, state: torch.dtype) -> torch.dtype:
    """The dtype that a step computes in: no narrower than weights, variables and float32."""
    return torch.promote_types(torch.promote_types(param, state), torch.float32)
