"""RankOneTO: A = a cᵀ, three numbers per weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..kernels import Rates
from ..rules import rank_one
from ..settings import Rate
from .base import TrainableOptimizer, Vector
from .fused import Part

Init = Literal["ones", "normal"] | Callable[[Tensor], Tensor]


class RankOneTO(TrainableOptimizer):
    """The gradient is modelled through one learned feature of the weights: Ĝ = a (cᵀw) + b.

    Memory: 3 d numbers of state. Time: O(d). (Algorithm 3.)

    Use it where weights act together: A has entries between all pairs of coordinates, at rank one.

    Args:
        params: parameters, named parameters or param groups.
        lr: learning rate γ: float, one-element tensor or schedule.
        alpha: rate of a and c, likewise. 0 switches learning of A off: momentum, or SGD when
            beta = 1. Default: 0.01.
        beta: rate of b, likewise. Default: 1.
        weight_decay: decoupled decay, w ← (1 − γ·weight_decay) w. Default: 0.
        scope: "tensor": one A per tensor; "group": the tensors of a param group are one vector w,
            as in the paper. Default: "tensor".
        init: c at the start (a starts at 0, so that A₀ = 0; c must not, or A stays 0 for ever).
            "ones": 1/√d each; "normal": N(0, 1/d); or a function of the parameter (of its real
            view when complex) that returns a tensor of its shape. Default: "ones".
        state_dtype: dtype of a, b, c. Default: that of the parameter, and float32 for float16
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

    rule = staticmethod(rank_one)
    variables = ("a", "c", "b")

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        alpha: Rate = 0.01,
        beta: Rate = 1.0,
        *,
        weight_decay: float = 0.0,
        scope: Literal["tensor", "group"] = "tensor",
        init: Init = "ones",
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

    def _check_params(self, group: dict[str, Any]) -> None:
        if not callable(group["init"]) and group["init"] not in ("ones", "normal"):
            raise ValueError(
                f"init={group['init']!r} is not known: give 'ones', 'normal' or a function."
            )

    def _new_variables(
        self, param: Tensor, group: dict[str, Any], vector: Vector
    ) -> tuple[Tensor, ...]:
        init = group["init"]
        dtype = group["state_dtype"] or vector.dtype
        a, c, b = (torch.zeros_like(param, dtype=dtype) for _ in self.variables)
        scale = max(vector.numel, 1) ** -0.5
        if callable(init):
            c.copy_(init(param))
            if not c.isfinite().all() or (c.numel() and not c.any()):
                raise ValueError(
                    f"init returned a c without a finite number other than 0 for the parameter of "
                    f"shape {tuple(param.shape)}: A would stay 0 for ever, or NaN."
                )
        elif init == "ones":
            c.fill_(scale)
        else:
            c.normal_(std=scale)
        return a, c, b

    def _call(self, part: Part, group: dict[str, Any], rates: Rates) -> Tensor:
        count = len(part.params)
        # Which tensors are one vector: all, or each.
        first = [0, count] if group["scope"] == "group" else list(range(count + 1))
        squares: Tensor = part.kernels.rank_one(part.prepared, rates, first)
        return squares
