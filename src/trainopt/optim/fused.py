"""Which tensors of a param group the kernels can take, in batches of one device and dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from ..kernels import NO_MEMORY, Batch, StepRates, computed_in
from .checks import check_storage
from .model import Model, joint_weights, real
from .paths import MODULES, kernel
from .plain import Tensors
from .record import StepRecord


class KernelCall(NamedTuple):
    """One call of a kernel.

    Attributes:
        kernel: takes `prepared` and the rates, returns ‖e‖.
        kernels: the module that the kernel comes from.
        params: the parameters whose tensors these are.
        batch: their tensors.
        prepared: the same, as the kernel reads them.
    """

    kernel: Callable[[Any, StepRates], Tensor]
    kernels: ModuleType
    params: list[Tensor]
    batch: Batch
    prepared: Any

    def gradient_norm(self) -> Tensor:
        """Return ‖g‖, 0-dim; nothing is changed."""
        found: Tensor = self.kernels.gradient_norm(self.prepared)
        return found

    def run(self, rates: StepRates) -> StepRecord:
        """Take the step. Autograd is told that the weights change, where they do."""
        if rates.descends:
            torch.autograd.graph.increment_version(self.batch.w)
        residual_norm = self.kernel(self.prepared, rates)
        estimate = self.batch.estimate if rates.keep_estimate else None
        return StepRecord(self.params, estimate, [residual_norm])


def may_run_fused(group: dict[str, Any]) -> bool:
    """Whether the group may run on kernels: it asked for them, or leaves the choice to us."""
    if torch.compiler.is_compiling() or group["differentiable"]:
        return False
    return bool(group["fused"] or (group["fused"] is None and group["foreach"] is None))


def kernel_calls(
    model: Model, group: dict[str, Any], tensors: Tensors, keep_estimate: bool
) -> tuple[list[KernelCall], Tensors]:
    """Sort the tensors of a group into batches that kernels take; nothing is changed.

    Args:
        model: of the group.
        group: the param group; with scope="group" its tensors stay together.
        tensors: whose shapes, dtypes and devices have been checked.
        keep_estimate: make room for the estimate.

    Returns:
        The calls, and the tensors that are left to plain torch.

    Raises:
        RuntimeError: fused=True, and something is left; it says why.
    """
    joint = group.get("scope") == "group"
    weights, gradients = tensors.params, tensors.grads
    if any(map(Tensor.is_complex, weights)):
        weights = [real(p.detach()) for p in weights]
        gradients = [real(g.detach()) for g in gradients]
    batches: dict[Any, list[int]] = {}
    lists = (weights, gradients, tensors.state[-1])
    kinds_of_all = [_one(map(type, xs)) for xs in lists]
    dtypes_of_all = [_one([x.dtype for x in xs]) for xs in lists]
    device = _one([w.device for w in weights])
    one_dense = model.form.dense and not joint  # a call each
    if None not in (*kinds_of_all, *dtypes_of_all, device) and not one_dense:
        key = (device, tuple(dtypes_of_all), tuple(kinds_of_all), 0)
        batches[key] = list(range(len(weights)))
    else:
        for place, of_one in enumerate(zip(*lists, strict=True)):
            kinds, dtypes = tuple(map(type, of_one)), tuple(x.dtype for x in of_one)
            own = place if one_dense else 0
            batches.setdefault((of_one[0].device, dtypes, kinds, own), []).append(place)
    calls: list[KernelCall] = []
    left: list[int] = []
    reason = ""
    for (device, dtypes, kinds, _), places in batches.items():
        chosen = [[xs[i] for i in places] for xs in (weights, gradients, *tensors.state)]
        params = [tensors.params[i] for i in places]
        call = _call(model, group, device, dtypes, kinds, params, chosen, keep_estimate)
        if isinstance(call, str):
            reason, left = call, left + places
        else:
            calls.append(call)
    if len(batches) > 1 and joint:
        reason, calls = "one vector has tensors of several dtypes", []
        left = list(range(len(weights)))
    if left and group["fused"]:
        raise RuntimeError(f"fused=True has no kernel here, {reason}: give fused=None or False.")
    params, grads, *state = (
        [xs[i] for i in left] for xs in (tensors.params, tensors.grads, *tensors.state)
    )
    return calls, Tensors(params, grads, state)


def _call(
    model: Model,
    group: dict[str, Any],
    device: torch.device,
    dtypes: tuple[torch.dtype, ...],
    kinds: tuple[type, ...],
    params: list[Tensor],
    lists: list[list[Tensor]],
    keep_estimate: bool,
) -> KernelCall | str:
    """The call for these weights, gradients and variables, or why there can be none."""
    for kind in kinds:
        if kind not in (Tensor, Parameter):  # the memory of a DTensor isn't all of it
            return f"a {kind.__name__} is more than its memory"
    dtype, gradient_dtype, state_dtype = dtypes
    if dtype != gradient_dtype:
        return f"a gradient of {gradient_dtype} belongs to weights of {dtype}"
    kernels = _kernels(device, dtype, state_dtype)
    if isinstance(kernels, str):
        return kernels
    function = kernel(kernels.DEVICE, model)
    if function is None:
        return f"there is none for {model.name} on {kernels.DEVICE}"
    if not _laid_out_alike(lists, model.form.dense):
        check_storage(params, lists[2:])
        return "a tensor's memory isn't laid out as its state"
    w, g, *state = lists
    wide = computed_in(dtype, state_dtype)
    estimate = None
    if keep_estimate or model.form.dense:
        estimate = [torch.empty_like(b, dtype=wide) for b in state[-1]]
    joint = group.get("scope") == "group"
    x = None
    if model.form.dense:
        check_storage(params)
        flat = [piece.detach().to(wide) for piece in w]
        x = joint_weights(group, params, flat) if joint else flat[0].reshape(-1)
    first = [0, len(w)] if joint else list(range(len(w) + 1))
    batch = Batch(w, g, state, estimate, first, x)
    prepared = kernels.prepare(batch)
    if prepared == NO_MEMORY:
        check_storage(params, state)
    if isinstance(prepared, str):
        return prepared
    return KernelCall(function, kernels, params, batch, prepared)


def _one(values: Iterable[Any]) -> Any:
    """The value that all are; None where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _kernels(device: torch.device, param: torch.dtype, state: torch.dtype) -> ModuleType | str:
    """The kernels for this device and these dtypes, or why there are none."""
    kernels = MODULES.get(device.type)
    if kernels is None:
        return f"there are none for {device.type}"
    return kernels.missing(param, state) or kernels


def _laid_out_alike(lists: list[list[Tensor]], dense_A: bool) -> bool:
    """Whether each tensor is dense and has the strides of its state.

    With `dense_A` all are contiguous: the rows and columns of A are in the order of the numbers,
    not of their memory.

    `lists` holds weights, gradients and variables. A gradient of other strides is replaced there.
    """
    if any(any(map(Tensor.is_neg, tensors)) for tensors in lists):
        return False  # what is in memory has the other sign
    if all(all(map(Tensor.is_contiguous, tensors)) for tensors in lists):
        return True
    weights, gradients, *state = lists
    for i, w in enumerate(weights):
        variables = [tensors[i] for tensors in state]
        if not (w.is_contiguous() if dense_A else _dense(w)) or any(
            x.stride() != w.stride() if x.shape == w.shape else not x.is_contiguous()
            for x in variables
        ):
            return False
        if gradients[i].stride() != w.stride():
            gradients[i] = torch.empty_like(w).copy_(gradients[i])
    return True


def _dense(x: Tensor) -> bool:
    """Whether the numbers of `x` are all numbers of its memory from the first on, each once."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True
