"""A step on a param group in two halves: everything is checked and prepared, then it is taken."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from ..kernels import StepRates
from ..schedules import Schedule
from ..settings import RATES, rate_at
from .checks import check_gradient, check_storage, check_variables
from .fused import KernelCall, kernel_calls, may_run_fused
from .model import Model, Vector, joint_vector, own_vector, real_shape, state_dtype
from .norms import total_norm
from .plain import Tensors, take_step
from .record import StepRecord

Numbers = tuple[Sequence[int], torch.device, torch.dtype, torch.layout]
"""Shape, device, dtype and layout of a tensor."""


class Plan(NamedTuple):
    """A step on one group, of which every tensor has been checked and nothing changed.

    Attributes:
        model: what the group learns.
        group: the param group.
        t: its clock: a number, or a 0-dim tensor on a device or inside a graph.
        rates: of the step.
        calls: what kernels take.
        tensors: what is left to plain torch.
    """

    model: Model
    group: dict[str, Any]
    t: float | Tensor
    rates: StepRates
    calls: list[KernelCall]
    tensors: Tensors


def check_graph_capture(optimizer: Optimizer) -> None:
    """Refuse a CUDA graph without `capturable`, under the name this version of torch has for it."""
    newer = getattr(optimizer, "_accelerator_graph_capture_health_check", None)
    (newer or optimizer._cuda_graph_capture_health_check)()


def gather(
    model: Model,
    group: dict[str, Any],
    state: MutableMapping[Tensor, Any],
    optimizer: str,
    found: Tensors,
) -> None:
    """Fill `found` with the parameters of a group that have a gradient, and make missing state.

    Args:
        model: of the group.
        group: the param group.
        state: of the optimizer.
        optimizer: name of its class.
        found: empty lists.

    Raises:
        TypeError, ValueError: gradient or state don't fit the weights; the sentence says in what.
    """
    active = [p for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in active if p.grad is not None]
    joint, names = joint_vector(group), model.variables
    if not _gradients_fit(active, grads):
        for p, grad in zip(active, grads, strict=True):
            check_gradient(p, grad, optimizer)
    held = [state[p] for p in active]
    if not all(held):
        check_storage(active)  # a start may read the weights
        for p, variables in zip(active, held, strict=True):
            if variables:
                continue
            if model.form.dense and hasattr(p, "placements"):
                raise TypeError(
                    f"{optimizer} can't hold a sharded parameter (DTensor), whose rows of A need "
                    "all weights: use DiagonalTO or RankOneTO."
                )
            vector = joint or own_vector(p)
            start = p if group["differentiable"] else p.detach()
            variables.update(model.init(start, state_dtype(group, vector), vector))
    state_of = [[variables.get(name) for variables in held] for name in names]
    if not _all_fit(model, group, joint, active, held, state_of):
        for p, variables in zip(active, held, strict=True):
            vector = joint or own_vector(p)
            shapes = dict(zip(names, model.shapes(real_shape(p), vector), strict=True))
            dtype = state_dtype(group, vector)
            check_variables(variables, shapes, dtype, p.device, p, optimizer)
    found.params.extend(active)
    found.grads.extend(grads)
    for pieces, variables in zip(found.state, state_of, strict=True):
        pieces.extend(variables)


def _all_fit(
    model: Model,
    group: dict[str, Any],
    joint: Vector | None,
    params: list[Tensor],
    held: list[dict[str, Any]],
    state: list[list[Any]],
) -> bool:
    """Whether `check_variables` would pass for all, where it can be told quickly."""
    if {len(variables) for variables in held} != {len(state)}:
        return False
    if len({p.dtype for p in params}) > 1 or params[0].is_complex():
        return False
    dtype = state_dtype(group, joint or own_vector(params[0]))
    like_weights = [(p.shape, p.device, dtype, torch.strided) for p in params]
    if model.form.like_weights:
        return all(_variables_fit(variables, like_weights) for variables in state)
    of_each = [model.shapes(p.shape, joint or own_vector(p)) for p in params]
    return all(
        _variables_fit(
            variables,
            [(shape, *others) for shape, (_, *others) in zip(shapes, like_weights, strict=True)],
        )
        for variables, shapes in zip(state, zip(*of_each, strict=True), strict=True)
    )


def _gradients_fit(params: list[Tensor], grads: list[Tensor]) -> bool:
    """Return whether `check_gradient` would pass for all, quickly."""
    return [(g.shape, g.device, g.layout) for g in grads] == [
        (p.shape, p.device, torch.strided) for p in params
    ]


def _variables_fit(variables: Sequence[Any], expected: Sequence[Numbers]) -> bool:
    """Return whether these variables of real parameters would pass `check_variables`, quickly."""
    return (
        set(map(type, variables)) == {Tensor}
        and [(x.shape, x.device, x.dtype, x.layout) for x in variables] == expected
    )


def plan(model: Model, group: dict[str, Any], tensors: Tensors, descends: bool) -> Plan:
    """Prepare a step on what `gather` found: the rates of the present clock, and the kernels.

    Raises:
        RuntimeError: fused=True, and there is no kernel; it says why.
        ValueError: weights or gradients have no memory.
    """
    step = group["step"]
    # A float when the clock is a host tensor, which synchronises nothing; inside a graph a tensor,
    # so that the rates change without a recompilation. (The clock itself is no float64:
    # torch.compile takes such a 0-dim tensor for a Python number and loses what is written.)
    t = step.double() if group["capturable"] or torch.compiler.is_compiling() else float(step)
    lr, alpha, beta = (rate_at(group.get(name, 0.0), t) for name in RATES)
    rates = StepRates(
        lr,
        alpha,
        beta,
        float(group.get("weight_decay", 0.0)),
        -1.0 if group.get("maximize") else 1.0,
        descends,
        group["keep_estimate"] or not descends,
    )
    calls: list[KernelCall] = []
    if may_run_fused(group):
        calls, tensors = kernel_calls(model, group, tensors, rates.keep_estimate)
    if tensors.params:  # a kernel looks at addresses by itself
        check_storage(tensors.params, tensors.state)
    return Plan(model, group, t, rates, calls, tensors)


def gradient_norm(planned: Iterable[Plan | None]) -> float:
    """Return ‖g‖ over all that a step takes; not finite where a number isn't or squares overflow.

    Nothing is changed. One pass over the gradients, one wait for the device.
    """
    plans = [each for each in planned if each is not None]
    norms = [call.gradient_norm() for each in plans for call in each.calls]
    return total_norm([g for each in plans for g in each.tensors.grads], norms)


def take(planned: Plan, state: dict[Tensor, dict[str, Tensor]]) -> list[StepRecord]:
    """Take the step, and let the clock of the group go on."""
    model, group, t, rates, calls, tensors = planned
    for kind in {p.device.type for p in tensors.params}:
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):  # a step is no place for half precision
                return take(planned, state)
    records = [call.run(rates) for call in calls]
    if tensors.params:
        # Two statements: with `records.append` on the stack, torch.compile compiles at every step.
        record = take_step(model, group, tensors, rates, state)
        records.append(record)
    # A schedule that starts at 0 goes on from there; a plain lr of 0 holds a fresh clock, so that
    # the dummy step by which torch.distributed.checkpoint allocates state leaves a fresh optimizer
    # as it was.
    may_hold = rates.descends and not isinstance(group["lr"], Schedule)
    group["step"].add_((t > 0) | (rates.lr != 0) if may_hold else 1)
    return records
