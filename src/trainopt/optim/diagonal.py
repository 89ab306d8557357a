"""DiagonalTO: A = diag(a), two numbers per weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..kernels import Rates
from ..rules import diagonal
from ..settings import Rate
from ..vectors import slices
from .base import Taken, TrainableOptimizer, Vector
from .fused import Part

# So many numbers, and some ten temporaries of that size, fit into the cache of a core.
_SLICE = 1 << 17


class DiagonalTO(TrainableOptimizer):
    """Each coordinate of the gradient is modelled as a line in its own weight: Ĝ = a∘w + b.

    Memory: 2 d numbers of state. Time: O(d). (Algorithm 2.)

    Use it first: it is as cheap as ADAM and needs no structure in the weights.

    Args:
        params: parameters, named parameters or param groups.
        lr: learning rate γ: float, one-element tensor or schedule.
        alpha: rate of a, likewise. 0 switches learning of A off: momentum, or SGD when beta = 1.
            Default: 0.01.
        beta: rate of b, likewise. Default: 1.
        weight_decay: decoupled decay, w ← (1 − γ·weight_decay) w. Default: 0.
        state_dtype: dtype of a and b. Default: that of the parameter, and float32 for float16
            and bfloat16 parameters.
        maximize: ascend instead of descend.
        foreach: update all tensors of a group with `torch._foreach_*` kernels. Default: as
            torch.optim chooses, on for CUDA.
        fused: do the step in one pass over memory by a kernel: C++ on the CPU, compiled once by the
            C++ compiler that it needs, Triton on CUDA. Default: where there is one; False, or a
            `foreach`, switches it off, and True raises where there is none.
        keep_estimate: keep Ĝ after a step, for `estimate`; costs memory traffic. Default: False.
        capturable: keep the clock on the device, for CUDA graphs and for rates that are CUDA
            tensors.
        differentiable: let gradients flow through `step()`, into lr, alpha and beta too.

    Raises:
        ValueError, TypeError: a setting can't work; the sentence names it, its value and the mend.
    """

    rule = staticmethod(diagonal)
    variables = ("a", "b")

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        alpha: Rate = 0.01,
        beta: Rate = 1.0,
        *,
        weight_decay: float = 0.0,
        state_dtype: torch.dtype | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        keep_estimate: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {k: v for k, v in locals().items() if k not in ("self", "params", "__class__")}
        super().__init__(params, defaults)

    def _new_variables(
        self, param: Tensor, group: dict[str, Any], vector: Vector
    ) -> tuple[Tensor, ...]:
        dtype = group["state_dtype"] or vector.dtype
        return tuple(torch.zeros_like(param, dtype=dtype) for _ in self.variables)

    def _apply(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        *state: list[Tensor],
        rates: Rates,
    ) -> Taken:
        """In slices whose temporaries stay in cache: the rule is elementwise, and makes many."""
        lists = [params, grads, *state]
        sliced = (
            rates.descends
            and not (group["keep_estimate"] or group["differentiable"])
            and not torch.compiler.is_compiling()
            and all(x.is_cpu and x.is_contiguous() for tensors in lists for x in tensors)
            and not any(p.is_complex() for p in params)
        )
        if not sliced:
            return super()._apply(group, *lists, rates=rates)
        if sum(p.numel() for p in params) <= _SLICE:
            return super()._apply(group, *lists, rates=rates)
        norms: list[Tensor] = []
        for run in slices(lists, _SLICE):
            residual = super()._apply(group, *run, rates=rates).residual
            norms += torch._foreach_norm(residual)
        return Taken(params, None, norms)

    def _call(self, part: Part, group: dict[str, Any], rates: Rates) -> Tensor:
        squares: Tensor = part.kernels.diagonal(part.prepared, rates)
        return squares
