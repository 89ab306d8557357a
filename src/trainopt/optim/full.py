"""FullTO: A dense, d² + d numbers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..kernels import Rates
from ..kernels.pending import Pending
from ..memory import available_bytes, human_bytes
from ..rules import Learned, full
from ..settings import Rate
from ..vectors import Vectors, flatten
from .base import TrainableOptimizer, real_numel
from .fused import Part


class FullTO(TrainableOptimizer):
    """Every coordinate of the gradient is modelled as linear in all weights: Ĝ = A w + b.

    Memory: d² + d numbers of state. Time: O(d²) a step, and never a second array of d² numbers.
    (Algorithm 1.) Where a kernel takes the step, updates of A wait in 16 vectors of d numbers and
    go into A together; whoever reads `state` finds them in A. With scope="tensor", d is the size
    of each tensor on its own.

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
        fused: do the step with one reading of A, whose updates wait in pairs of vectors: by a C++
            kernel on the CPU, compiled once by the C++ compiler that it needs. Default: where there
            is one; False, or a `foreach`, switches it off, and True raises where there is none.
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
        self._pending: dict[Tensor, Pending] = {}
        super().__init__(params, defaults)

    @property
    def state(self) -> Any:
        """The state of every parameter, with all pending updates in A at the time of reading."""
        self._flush()
        return self._raw

    @state.setter
    def state(self, value: Any) -> None:
        self._raw = value

    @property
    def _held(self) -> Any:
        return self._raw

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._pending = {}
        super().__setstate__(state)
        # Optimizer writes it past the property.
        self._raw = self.__dict__.pop("state")

    def _flush(self) -> None:
        for pending in set(self._pending.values()):
            pending.flush()

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
        if self._pending:
            self._flush()
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
        kernels, params, batch = part
        A, b = batch.state
        if batch.estimate is None:
            batch = batch._replace(estimate=[torch.empty_like(piece) for piece in b])
        dtype = torch.promote_types(b[0].dtype, torch.float32)
        pieces = [w.reshape(-1).to(dtype) for w in batch.w]
        if group["scope"] == "group":
            x = self._joint(group, params, pieces)
            squares: Tensor = kernels.full(batch, rates, self._pairs(params, A, dtype), x)
            return squares
        each = [
            kernels.full(one, rates, self._pairs([p], one.state[0], dtype), x)
            for p, one, x in zip(params, batch.single(), pieces, strict=True)
        ]
        return torch.stack(each).sum()

    def _pairs(self, params: list[Tensor], A: list[Tensor], dtype: torch.dtype) -> Pending:
        """The pairs beside these blocks of A; where other parameters shared them, new ones."""
        owners = {self._pending.get(p) for p in params}
        pending = owners.pop()
        if not owners and pending is not None and list(map(id, pending.A)) == list(map(id, A)):
            return pending
        for other in owners | {pending}:
            if other is not None:
                other.flush()
        pending = Pending(A, dtype)
        self._pending.update((p, pending) for p in params)
        return pending

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
