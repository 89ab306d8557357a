"""Which tensors of a param group the kernels can take, in batches of one device and dtype."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..kernels import Batch, computed_in, cpu, cuda
from ..rules import Rule, diagonal, full, rank_one


class Part(NamedTuple):
    """What one call of a kernel takes.

    Attributes:
        kernels: the module of the kernels.
        params: the parameters whose tensors these are.
        batch: their tensors.
        prepared: the same, as the kernels read them.
    """

    kernels: ModuleType
    params: list[Tensor]
    batch: Batch
    prepared: Any


def wanted(group: dict[str, Any], rule: Rule) -> bool:
    """Whether the group may run on kernels: it asked for them, or leaves the choice to us.

    Raises:
        RuntimeError: fused=True, and the rule has no kernel: a subclass brought its own.
    """
    if torch.compiler.is_compiling() or group["differentiable"]:
        return False
    if rule not in (diagonal, rank_one, full):
        if group["fused"]:
            raise RuntimeError(
                f"fused=True has no kernel for the rule {rule.__name__}: give fused=None or False."
            )
        return False
    return bool(group["fused"] or (group["fused"] is None and group["foreach"] is None))


def parts(
    rule: Rule,
    group: dict[str, Any],
    params: list[Tensor],
    w: list[Tensor],
    g: list[Tensor],
    state: list[list[Tensor]],
    keeps: bool,
    dense: bool,
) -> tuple[list[Part], list[int]]:
    """Sort the tensors of a group into batches that kernels take, and the places that are left.

    Args:
        rule: whose kernels.
        group: the param group; with scope="group" its tensors stay together.
        params: the parameters.
        w: their weights, real.
        g: gradients, likewise.
        state: a list per variable.
        keeps: make room for the estimate.
        dense: whether the first variable is a matrix.

    Raises:
        RuntimeError: fused=True, and something is left; it says why.
    """
    joint = group.get("scope") == "group"
    batches: dict[Any, list[int]] = {}
    for place, (weight, gradient, variable) in enumerate(zip(w, g, state[-1], strict=True)):
        kinds = type(weight), type(gradient), type(variable)
        dtypes = weight.dtype, gradient.dtype, variable.dtype
        own = place if dense and not joint else 0  # one A a call
        batches.setdefault((weight.device, dtypes, kinds, own), []).append(place)
    found: list[Part] = []
    left: list[int] = []
    reason = ""
    for (device, dtypes, kinds, _), places in batches.items():
        chosen = [[tensors[i] for i in places] for tensors in (w, g, *state)]
        part = _part(rule, device, dtypes, kinds, chosen, keeps, dense)
        if isinstance(part, str):
            reason, left = part, left + places
        else:
            found.append(Part(part[0], [params[i] for i in places], part[1], part[2]))
    if len(batches) > 1 and joint:
        reason, found, left = "one vector has tensors of several dtypes", [], list(range(len(w)))
    if left and group["fused"]:
        raise RuntimeError(f"fused=True has no kernel here, {reason}: give fused=None or False.")
    return found, left


def _part(
    rule: Rule,
    device: torch.device,
    dtypes: tuple[torch.dtype, torch.dtype, torch.dtype],
    kinds: tuple[type, ...],
    chosen: list[list[Tensor]],
    keeps: bool,
    dense: bool,
) -> tuple[ModuleType, Batch, Any] | str:
    """The kernels for these weights, gradients and variables, and what they take; or why not."""
    for kind in kinds:
        if kind is not Tensor:  # the memory of a DTensor isn't all of it
            return f"a {kind.__name__} is more than its memory"
    dtype, gradient_dtype, state_dtype = dtypes
    if dtype != gradient_dtype:
        return f"a gradient of {gradient_dtype} belongs to weights of {dtype}"
    kernels = _kernels(device, dtype, state_dtype)
    if isinstance(kernels, str):
        return kernels
    if not hasattr(kernels, rule.__name__):
        return f"there is none for the rule {rule.__name__} on {device.type}"
    if not _laid_out_alike(chosen):
        return "a tensor's memory isn't laid out as its state"
    weights, gradients, *variables = chosen
    estimate = None
    if keeps or dense:
        wide = computed_in(dtype, state_dtype)
        estimate = [torch.empty_like(b, dtype=wide) for b in variables[-1]]
    batch = Batch(weights, gradients, variables, estimate)
    prepared = kernels.prepare(batch, variables[0][0].shape[1] if dense else 1)
    return prepared if isinstance(prepared, str) else (kernels, batch, prepared)


def _kernels(device: torch.device, param: torch.dtype, state: torch.dtype) -> ModuleType | str:
    """The kernels for this device and these dtypes, or why there are none."""
    kernels = {"cpu": cpu, "cuda": cuda}.get(device.type)
    if kernels is None:
        return f"there are none for {device.type}"
    return kernels.missing(param, state) or kernels


def _laid_out_alike(lists: list[list[Tensor]]) -> bool:
    """Whether each tensor is dense and shares its strides with its state; mends gradients in place.

    `lists` holds weights, gradients and variables. A is a matrix of its own, contiguous.
    """
    if any(x.is_neg() for tensors in lists for x in tensors):
        return False  # what is in memory has the other sign
    if all(x.is_contiguous() for tensors in lists for x in tensors):
        return True
    weights, gradients, *state = lists
    for i, w in enumerate(weights):
        variables = [tensors[i] for tensors in state]
        if not _dense(w) or any(
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
