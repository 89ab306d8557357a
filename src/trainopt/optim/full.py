"""FullTO: A dense, d² + d numbers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..memory import available_bytes, human_bytes
from ..rules import Learned, full
from ..settings import Rate
from ..vectors import Vectors, flatten
from .base import TrainableOptimizer, real_numel


class FullTO(TrainableOptimizer):
    """Every coordinate of the gradient is modelled as linear in all weights: Ĝ = A w + b.

    Memory: d² + d numbers of state. Time: O(d²) a step, and never a second array of d² numbers.
    (Algorithm 1.) With scope="tensor", d is the size of each tensor on its own.

    Use it for small models, up to some thousand weights, where it is the strongest of the three.

    A is kept as one block of rows per parameter, in the state of that parameter. A parameter
    without a gradient is left out of a step: its rows and its columns stay as they are.

    Args:
        params: parameters, named parameters or param groups.
        lr: learning rate γ: float, one-element tensor or schedule.
        alpha: rate of A, likewise. 0 switches learning of A off: momentum, or SGD when beta = 1.
            Default: 0.01.
        beta: rate of b, likewise. Default: 1.
        weight_decay: decoupled decay, w ← (1 − γ·weight_decay) w. Default: 0.
        scope: "group": the tensors of a param group are one vector w, as in the paper; "tensor":
            one A per tensor. Default: "group".
        check_memory: refuse, before anything is allocated, when A needs more bytes than the device
            has available. Default: True.
        state_dtype: dtype of A and b. Default: that of the parameter, and float32 for float16
            and bfloat16 parameters.
        maximize: ascend instead of descend.
        foreach: do the elementwise part with `torch._foreach_*` kernels. Default: as torch.optim
            chooses, on for CUDA.
        capturable: keep the clock on the device, for CUDA graphs and for rates that are CUDA
            tensors.
        differentiable: let gradients flow through `step()`, into lr, alpha and beta too. Autograd
            then makes a new A at every step.

    Raises:
        ValueError, TypeError: a setting can't work; the sentence names it, its value and the mend.
        MemoryError: A does not fit; the sentence names d, the bytes and the ways out.
    """

    rule = staticmethod(full)
    variables = ("A", "b")

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        alpha: Rate = 0.01,
        beta: Rate = 1.0,
        *,
        weight_decay: float = 0.0,
        scope: Literal["group", "tensor"] = "group",
        check_memory: bool = True,
        state_dtype: torch.dtype | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {k: v for k, v in locals().items() if k not in ("self", "params", "__class__")}
        super().__init__(params, defaults)

    def _new_variables(self, param: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        dtype = self._state_dtype(param, group)
        shape = (param.numel(), self._columns(param, group))
        A = torch.zeros(shape, dtype=dtype, device=param.device)
        # Contiguous whatever the layout of the parameter: the rule sees it flat, without a copy.
        return A, torch.zeros(param.shape, dtype=dtype, device=param.device)

    def _learn(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        w: Any,
        g: Vectors,
        *state: Vectors,
        alpha: Any,
        beta: Any,
    ) -> Learned:
        A, b = state
        flat_b = Vectors(flatten(b).tensors, foreach=b.foreach, inplace=b.inplace)
        x: Any = flatten(w)
        if group["scope"] == "group":
            x = self._joint(group, params, x.tensors)
        learned = super()._learn(group, params, x, flatten(g), A, flat_b, alpha=alpha, beta=beta)
        A, flat_b = learned.variables
        shaped = [
            Vectors(
                [piece.view(like.shape) for piece, like in zip(v.tensors, g.tensors, strict=True)],
                foreach=g.foreach,
            )
            for v in (flat_b, learned.estimate, learned.residual)
        ]
        return Learned((A, shaped[0]), shaped[1], shaped[2])

    @staticmethod
    def _joint(group: dict[str, Any], params: list[Tensor], pieces: list[Tensor]) -> Tensor:
        """Return the group's weights as one vector, with 0 for parameters without a gradient."""
        present = {id(p): piece for p, piece in zip(params, pieces, strict=True)}
        return torch.cat(
            [
                present[id(p)] if id(p) in present else pieces[0].new_zeros(real_numel(p))
                for p in group["params"]
            ]
        )

    @staticmethod
    def _columns(param: Tensor, group: dict[str, Any]) -> int:
        if group["scope"] == "tensor":
            return real_numel(param)
        return sum(real_numel(p) for p in group["params"])

    def _check_params(self, group: dict[str, Any]) -> None:
        devices = {p.device for p in group["params"]}
        if group["scope"] == "group" and len(devices) > 1:
            raise ValueError(
                f"scope='group' needs one device, the group has {sorted(map(str, devices))}: "
                "give scope='tensor' or one group per device."
            )
        if not group["check_memory"]:
            return
        for device in devices:
            self._check_fits(device, [*self.param_groups, group])

    def _check_fits(self, device: torch.device, groups: list[dict[str, Any]]) -> None:
        here = [(p, group) for group in groups for p in group["params"] if p.device == device]
        needed = sum(
            real_numel(p) * self._columns(p, group) * self._state_dtype(p, group).itemsize
            for p, group in here
            if p not in self.state
        )
        available = available_bytes(device)
        if available is not None and needed > available:
            raise MemoryError(
                f"A needs {needed} bytes ({human_bytes(needed)}) for d = "
                f"{sum(real_numel(p) for p, _ in here)} weights, {device} has "
                f"{human_bytes(available)} available: use scope='tensor', RankOneTO or "
                "DiagonalTO, or check_memory=False to try it all the same."
            )
