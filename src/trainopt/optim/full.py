"""FullTO: A dense, d² + d numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..kernels import Rates, computed_in
from ..memory import available_bytes, human_bytes
from ..rules import Learned, full
from ..settings import Rate
from ..vectors import Vectors, flatten
from .base import TrainableOptimizer, Vector, real_numel
from .fused import Part


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
        fused: do the step in one pass over A, by a C++ kernel on the CPU, compiled once by the C++
            compiler that it needs. Default: where there is one; False, or a `foreach`, switches it
            off, and True raises where there is none, as on CUDA.
        keep_estimate: keep Ĝ after a step, for `estimate`; costs memory traffic. Default: False.
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
    dense = True

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
        fused: bool | None = None,
        keep_estimate: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {k: v for k, v in locals().items() if k not in ("self", "params", "__class__")}
        self._complete = False  # the groups of `params` are added one by one, and checked together
        super().__init__(params, defaults)
        self._check_memory(self.param_groups)
        self._complete = True

    def _new_variables(
        self, param: Tensor, group: dict[str, Any], vector: Vector
    ) -> tuple[Tensor, ...]:
        dtype = group["state_dtype"] or vector.dtype
        # Contiguous whatever the layout of the parameter: the rule sees it flat, without a copy.
        A, b = (
            torch.zeros(tuple(shape), dtype=dtype, device=param.device)
            for shape in self._shapes(param, vector)
        )
        return A, b

    def _shapes(self, param: Tensor, vector: Vector) -> tuple[Sequence[int], ...]:
        if hasattr(param, "placements"):
            raise TypeError(
                "FullTO can't hold a sharded parameter (DTensor), whose rows of A need all "
                "weights: use DiagonalTO or RankOneTO."
            )
        return (param.numel(), vector.numel), param.shape

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

    def _call(self, part: Part, group: dict[str, Any], rates: Rates) -> Tensor:
        _, b = part.batch.state
        dtype = computed_in(part.batch.w[0].dtype, b[0].dtype)
        pieces = [w.reshape(-1).to(dtype) for w in part.batch.w]
        joint = group["scope"] == "group"
        x = self._joint(group, part.params, pieces) if joint else pieces[0]
        squares: Tensor = part.kernels.full(part.prepared, rates, x)
        return squares

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

    def _check_params(self, group: dict[str, Any]) -> None:
        devices = {p.device for p in group["params"]}
        if group["scope"] == "group" and len(devices) > 1:
            raise ValueError(
                f"scope='group' needs one device, the group has {sorted(map(str, devices))}: "
                "give scope='tensor' or one group per device."
            )
        if self._complete:
            self._check_memory([*self.param_groups, group])

    def _check_memory(self, groups: list[dict[str, Any]]) -> None:
        """Raise when A of these groups doesn't fit into what their devices have available."""
        needed: dict[torch.device, int] = {}
        weights: dict[torch.device, int] = {}
        for group in groups:
            if not group["check_memory"]:
                continue
            joint = self._vector(group)
            for p in group["params"]:
                if p not in self.state:
                    own = joint.numel if joint else real_numel(p)
                    bytes_each = self._state_dtype(p, group, joint).itemsize
                    needed[p.device] = needed.get(p.device, 0) + real_numel(p) * own * bytes_each
                    weights[p.device] = weights.get(p.device, 0) + real_numel(p)
        for device, count in needed.items():
            available = available_bytes(device)
            if available is not None and count > available:
                raise MemoryError(
                    f"A needs {count} bytes ({human_bytes(count)}) for d = {weights[device]} "
                    f"weights, {device} has {human_bytes(available)} available: use "
                    "scope='tensor', RankOneTO or DiagonalTO, or check_memory=False to try it all "
                    "the same."
                )
