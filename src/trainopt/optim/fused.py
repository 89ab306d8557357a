"""Which tensors of a param group the kernels can take, in batches of one device and dtype."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..kernels import Batch
from ..rules import Rule, diagonal, full, rank_one


class Part(NamedTuple):
    """What one call of a kernel takes.

    Attributes:
        kernels: the module of the kernels.
        params: the parameters whose tensors these are.
        batch: the tensors.
    """

    kernels: ModuleType
    params: list[Tensor]
    batch: Batch


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
    group: dict[str, Any],
    params: list[Tensor],
    w: list[Tensor],
    g: list[Tensor],
    state: list[list[Tensor]],
    keeps: bool,
) -> tuple[list[Part], list[int]]:
    """Sort the tensors of a group into batches that kernels take, and the places that are left.

    Args:
        group: the param group; with scope="group" its tensors stay together.
        params: the parameters.
        w: their weights, real.
        g: gradients, likewise.
        state: a list per variable.
        keeps: make room for the estimate.

    Raises:
        RuntimeError: fused=True, and something is left; it says why.
    """
    batches: dict[Any, list[int]] = {}
    for place, (weight, gradient, variable) in enumerate(zip(w, g, state[-1], strict=True)):
        key = (weight.device, weight.dtype, gradient.dtype, variable.dtype, type(weight))
        batches.setdefault(key, []).append(place)
    found: list[Part] = []
    left: list[int] = []
    reason = ""
    for (device, dtype, gradient_dtype, state_dtype, kind), places in batches.items():
        kernels = _kernels(device, dtype, state_dtype)
        if dtype != gradient_dtype:
            kernels = f"a gradient of {gradient_dtype} belongs to weights of {dtype}"
        if kind is not Tensor:  # the memory of a DTensor isn't all of it
            kernels = f"a {kind.__name__} is more than its memory"
        if isinstance(kernels, str):
            reason, left = kernels, left + places
            continue
        chosen = [[tensors[i] for i in places] for tensors in (w, g, *state)]
        if not _laid_out_alike(chosen):
            reason, left = "a tensor's memory isn't laid out as its state", left + places
            continue
        weights, gradients, *variables = chosen
        estimate = [torch.empty_like(b) for b in variables[-1]] if keeps else None
        batch = Batch(weights, gradients, variables, estimate)
        found.append(Part(kernels, [params[i] for i in places], batch))
    if len(batches) > 1 and group.get("scope") == "group":
        reason, found, left = "one vector has tensors of several dtypes", [], list(range(len(w)))
    if left and group["fused"]:
        raise RuntimeError(f"fused=True has no kernel here, {reason}: give fused=None or False.")
    return found, left


def _kernels(device: torch.device, param: torch.dtype, state: torch.dtype) -> ModuleType | str:
    """The kernels for this device and these dtypes, or why there are none."""
    if device.type not in ("cpu", "cuda"):
        return f"there are none for {device.type}"
    kernels = importlib.import_module(f"trainopt.kernels.{device.type}")
    return kernels.missing(param, state) or kernels


def _laid_out_alike(lists: list[list[Tensor]]) -> bool:
    """Whether each tensor is dense and shares its strides with its state; mends gradients in place.

    `lists` holds weights, gradients and variables. A is a matrix of its own, contiguous.
    """
    if all(x.is_contiguous() for tensors in lists for x in tensors):
        return True
    weights, gradients, *state = lists
    for i, w in enumerate(weights):
        shaped = [tensors[i] for tensors in state if tensors[i].shape == w.shape]
        if torch._debug_has_internal_overlap(w) or any(x.stride() != w.stride() for x in shaped):
            return False
        if gradients[i].stride() != w.stride():
            gradients[i] = torch.empty_like(w).copy_(gradients[i])
    return True
