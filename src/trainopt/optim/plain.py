"""A step in plain torch: by a closed form on many tensors, or by `rules.learn` on each vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..kernels import StepRates, computed_in
from ..rules import ClosedForm, descend, learn
from ..vectors import Vectors, flatten, slices
from .model import Model, gathered, joint_weights, placed, real
from .paths import closed_form
from .record import StepRecord

# So many numbers, and some ten temporaries of that size, fit into the cache of a core.
_SLICE = 1 << 17


class Tensors(NamedTuple):
    """The tensors of a step on one group, lists of one length each.

    Attributes:
        params: the parameters.
        grads: their gradients.
        state: a list per variable.
    """

    params: list[Tensor]
    grads: list[Tensor]
    state: list[list[Tensor]]


def take_step(
    model: Model,
    group: dict[str, Any],
    tensors: Tensors,
    rates: StepRates,
    held: dict[Tensor, dict[str, Tensor]],
) -> StepRecord:
    """Take the step; `held` is the optimizer's state, which a differentiable step replaces."""
    closed = closed_form(model)
    if closed is None:
        joint = group.get("scope") == "group"
        count = len(tensors.params)
        vectors = [range(count)] if joint else [range(i, i + 1) for i in range(count)]
        records = [
            _general(model, group, _chosen(tensors, places), rates, held) for places in vectors
        ]
        return _together(records)
    if not _sliced(model, group, tensors, rates):
        return _closed(closed, model, group, tensors, rates, held)
    norms: list[Tensor] = []
    for params, grads, *state in slices([tensors.params, tensors.grads, *tensors.state], _SLICE):
        part = Tensors(params, grads, state)
        norms += torch._foreach_norm(_closed(closed, model, group, part, rates, held).residual)
    return StepRecord(tensors.params, None, norms)


def _closed(
    closed: ClosedForm,
    model: Model,
    group: dict[str, Any],
    tensors: Tensors,
    rates: StepRates,
    held: dict[Tensor, dict[str, Tensor]],
) -> StepRecord:
    """By a closed form, tensor by tensor or with `torch._foreach_*`."""
    params, grads, state = tensors
    differentiable = group["differentiable"]
    foreach = _uses_foreach(group, params)
    joint = group.get("scope") == "group"

    def vectors(pieces: Iterable[Tensor]) -> Vectors:
        return Vectors(list(pieces), foreach=foreach, inplace=not differentiable, joint=joint)

    targets = [real(p) for p in params]
    dtypes = [computed_in(x.dtype, b.dtype) for x, b in zip(targets, state[-1], strict=True)]
    # Autograd keeps the weights of this step; without a copy the update would overwrite them.
    w = vectors(p.to(t, copy=differentiable) for p, t in zip(targets, dtypes, strict=True))
    g = vectors(real(q).to(t) for q, t in zip(grads, dtypes, strict=True))
    if group.get("maximize"):
        g = g * -1
    matrices = state[:1] if model.form.dense else []
    variables = [vectors(pieces) for pieces in matrices] + [
        vectors(x.to(t) for x, t in zip(pieces, dtypes, strict=True))
        for pieces in state[len(matrices) :]
    ]
    if model.form.dense:
        x: Any = joint_weights(group, params, w.tensors) if joint else flatten(w)
        A, b = variables
        learned = closed(x, flatten(g), A, flatten(b), alpha=rates.alpha, beta=rates.beta)
    else:
        learned = closed(w, g, *variables, alpha=rates.alpha, beta=rates.beta)

    def shaped(found: Any) -> list[Tensor]:
        if not model.form.dense:
            tensors: list[Tensor] = found.tensors
            return tensors
        return [y.view(like.shape) for y, like in zip(found.tensors, g.tensors, strict=True)]

    new = [v.tensors if i < len(matrices) else shaped(v) for i, v in enumerate(learned.variables)]
    _keep(model, params, state, new, differentiable, held)
    estimate = shaped(learned.estimate)
    if rates.descends:
        moved = descend(w, vectors(estimate), lr=rates.lr, weight_decay=rates.weight_decay)
        for target, weights in zip(targets, moved.tensors, strict=True):
            if target is not weights:
                target.copy_(weights)
    return StepRecord(params, estimate if rates.keep_estimate else None, shaped(learned.residual))


def _general(
    model: Model,
    group: dict[str, Any],
    tensors: Tensors,
    rates: StepRates,
    held: dict[Tensor, dict[str, Tensor]],
) -> StepRecord:
    """By the general rule on one vector: a tensor, or the tensors of a group in one piece."""
    params, grads, state = tensors
    form, rule, reading = model
    joint = group.get("scope") == "group"
    differentiable = group["differentiable"]
    targets = [real(p) for p in params]
    dtype = computed_in(targets[0].dtype, state[-1][0].dtype)
    for target in targets:
        dtype = computed_in(target.dtype, dtype)
    sizes = [target.numel() for target in targets]
    if not sum(sizes):  # a form needn't know what to do without numbers
        empty = [t.detach().to(dtype) for t in targets]
        return StepRecord(params, empty, empty)

    def vector(name: str, pieces: list[Tensor]) -> Tensor:
        if not form.elementwise:
            pieces = [gathered(x) for x in pieces]
        pieces = [x.to(dtype) for x in pieces]
        return model.joined(name, pieces, sizes) if joint else pieces[0]

    def pieces(x: Tensor, like: list[Tensor]) -> list[Tensor]:
        parts = torch.split(x, sizes) if joint else [x]
        return [placed(part.reshape(y.shape), y) for part, y in zip(parts, like, strict=True)]

    w, g = vector("b", targets), vector("b", [real(q) for q in grads])
    if differentiable:
        w = w.clone()  # autograd keeps the weights of this step
    if group.get("maximize"):
        g = -g
    names = model.variables
    *values, b = (vector(name, x) for name, x in zip(names, state, strict=True))
    theta, read_by = values[: len(form.variables)], values[len(form.variables) :]
    x = reading.read(w, *read_by)
    if joint and form.dense:
        x = joint_weights(group, params, pieces(x, targets))
    learned = learn(form, rule, x, g, *theta, b, alpha=rates.alpha, beta=rates.beta)
    *new_theta, new_b = learned.variables
    results = [*new_theta, *reading.update(w, *read_by), new_b]
    new = [pieces(y, like) for y, like in zip(results, state, strict=True)]
    _keep(model, params, state, new, differentiable, held)
    if rates.descends:
        moved = descend(w, learned.estimate, lr=rates.lr, weight_decay=rates.weight_decay)
        for target, weights in zip(targets, pieces(moved, targets), strict=True):
            target.copy_(weights)
    estimate = pieces(learned.estimate, targets) if rates.keep_estimate else None
    return StepRecord(params, estimate, [learned.residual])


def _keep(
    model: Model,
    params: list[Tensor],
    state: list[list[Tensor]],
    new: list[list[Tensor]],
    differentiable: bool,
    held: dict[Tensor, dict[str, Tensor]],
) -> None:
    """Put the new variables into the state: into its tensors, or, for autograd, in their place."""
    for name, olds, news in zip(model.variables, state, new, strict=True):
        for p, old, value in zip(params, olds, news, strict=True):
            if differentiable:
                held[p][name] = value.to(old.dtype)
            elif value is not old:
                old.copy_(value)


def _uses_foreach(group: dict[str, Any], params: list[Tensor]) -> bool:
    """As chosen; else, as torch.optim chooses, where all is on a GPU and nothing differentiates."""
    if group["foreach"] is not None:
        return bool(group["foreach"])
    return not group["differentiable"] and all(
        p.is_cuda and type(p) in (Tensor, torch.nn.Parameter) for p in params
    )


def _sliced(model: Model, group: dict[str, Any], tensors: Tensors, rates: StepRates) -> bool:
    """Whether the step goes in slices whose temporaries stay in cache, as the CPU likes it."""
    params, grads, state = tensors
    return (
        model.form.elementwise
        and rates.descends
        and not (rates.keep_estimate or group["differentiable"])
        and not torch.compiler.is_compiling()
        and sum(p.numel() for p in params) > _SLICE
        and all(x.is_cpu and x.is_contiguous() for xs in (params, grads, *state) for x in xs)
        and not any(p.is_complex() for p in params)
    )


def _chosen(tensors: Tensors, places: Iterable[int]) -> Tensors:
    def chosen(xs: list[Tensor]) -> list[Tensor]:
        return [xs[i] for i in places]

    return Tensors(chosen(tensors.params), chosen(tensors.grads), list(map(chosen, tensors.state)))


def _together(records: list[StepRecord]) -> StepRecord:
    kept = [r.estimate for r in records if r.estimate is not None]
    return StepRecord(
        [p for r in records for p in r.params],
        [x for estimate in kept for x in estimate] if kept else None,
        [x for r in records for x in r.residual],
    )
