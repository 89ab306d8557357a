"""What a Trainable Optimizer knows about itself, as numbers to plot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.utils.hooks import RemovableHandle

from trainopt.conditions import residual_factors
from trainopt.estimated import Estimated
from trainopt.optim import Estimator
from trainopt.optim.model import gathered
from trainopt.optim.reading import ReadVector, moved_params, read_vectors
from trainopt.schedules import Schedule
from trainopt.settings import rate_at

Log: TypeAlias = Callable[[dict[str, float], int], None]
"""Takes values by name, and the step they belong to."""


@torch.no_grad()
def monitor(
    optimizer: Optimizer, gradient: Mapping[Tensor, Tensor] | None = None
) -> dict[str, float]:
    """Return what there is to know after a step, before the gradients are cleared.

    Args:
        optimizer: a Trainable Optimizer, an `Estimated`, or one of them as Accelerate or Lightning
            wraps it.
        gradient: ∇F for each parameter, at the weights *before* the step: that of a large batch,
            from `large_batch_gradient`.

    Returns:
        residual_norm: ‖e‖, e = g − A w − b: falls as A and b are learned.
        norm_A, norm_b: Frobenius norms. A, b that grow without end have an α that is too large.
        lr, alpha, beta: the rates of the next step; one per group (lr_0, lr_1, …) where they
            differ. lr is that of the optimizer that steps.
        fresh_weight: the weight of the fresh gradient in the estimate, the mean of β + α times the
            form's `least_gain`: β + α‖w‖² for Full-TO, the mean of β + α wᵢ² for Diagonal-TO,
            β + α (cᵀw)² for RankOne-TO. 1 for SGD, near 0 for an estimate that hardly listens.
        residual_factor: the largest number of `residual_factors`: 1 or more for long, and the run
            diverges.
        error, cosine: ‖Ĝ − ∇F‖ / ‖∇F‖ and the cosine of Ĝ and ∇F; batch_error, batch_cosine: the
            same of the mini-batch gradient g. Only with `gradient`.

        nan stands where no tensor that took part has numbers. Time O(d), d² for Full-TO, and a wait
        for the device: ask now and then, not at every step. With sharded parameters (FSDP2) every
        process must ask; each gets the numbers of the whole model.

    Raises:
        TypeError: there is no Trainable Optimizer in `optimizer`.
        RuntimeError: no step was taken yet.
        KeyError: with `gradient`, when the estimate isn't kept.
    """
    outer = _unwrapped(optimizer)
    learner = outer.estimator if isinstance(outer, Estimated) else outer
    groups = learner.param_groups
    clocks = [float(group["step"]) for group in groups]
    rates = [
        [float(rate_at(group[name], t)) for group, t in zip(groups, clocks, strict=True)]
        for name in ("alpha", "beta")
    ]
    lrs = [
        # Only a Trainable Optimizer's lr may be a schedule, of its own clock.
        float(rate_at(lr, float(group["step"]) if isinstance(lr, Schedule) else 0.0))
        for group in outer.param_groups
        if (lr := group.get("lr")) is not None
    ]
    moved = moved_params(learner)
    fresh = [
        beta + float((vector.rate(alpha) * vector.gains()[0]).mean())
        for group, alpha, beta in zip(groups, *rates, strict=True)
        for vector in map(ReadVector.wide, read_vectors(learner, group, moved))
    ]
    learned = {p for p, state in learner.state.items() if state and p.numel()}
    norms = [
        vector.wide().norm_of_A()
        for group in groups
        for vector in read_vectors(learner, group, learned)
    ]
    values = {
        "residual_norm": float(outer.residual_norm()),
        "norm_A": sum(norm**2 for norm in norms) ** 0.5,
        "norm_b": sum(_square(state["b"]) for state in learner.state.values() if state) ** 0.5,
        **_named("lr", lrs),
        **_named("alpha", rates[0]),
        **_named("beta", rates[1]),
        "fresh_weight": sum(fresh) / len(fresh) if fresh else math.nan,
        "residual_factor": max(residual_factors(learner).values(), default=math.nan),
    }
    if gradient is not None:
        known = [p for p in gradient if p.grad is not None]
        truth = [gradient[p] for p in known]
        values["error"], values["cosine"] = _compared([outer.estimate(p) for p in known], truth)
        values["batch_error"], values["batch_cosine"] = _compared(
            [p.grad for p in known if p.grad is not None], truth
        )
    return values


def large_batch_gradient(optimizer: Optimizer, loss: Callable[[], Tensor]) -> dict[Tensor, Tensor]:
    """Return the gradient of `loss()` for each parameter, and leave `p.grad` as it is.

    Take the loss of a large held-out batch, before the step whose estimate it shall judge.
    """
    params = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    with torch.enable_grad():
        found = torch.autograd.grad(loss(), params, allow_unused=True)
    return {p: g for p, g in zip(params, found, strict=True) if g is not None}


def watch(optimizer: Optimizer, log: Log, every: int = 1) -> RemovableHandle:
    """Log `monitor(optimizer)` at every `every`-th step, in any training loop.

    Args:
        optimizer: as in `monitor`.
        log: what to do with the values; see `trainopt.integrations.loggers`. The step it is given
            is the optimizer's own clock, so that a resumed run goes on counting. Nothing is logged
            after a step without any gradient.
        every: steps between two logs, ≥ 1.

    Returns:
        A handle whose `remove()` ends it.
    """
    if every < 1:
        raise ValueError(f"every={every} is not allowed: give a number of steps ≥ 1.")
    outer = _unwrapped(optimizer)
    count = itertools.count(1)

    def after(*_: Any) -> None:
        if next(count) % every == 0 and stepped(outer):
            log(monitor(outer), clock(outer))

    return outer.register_step_post_hook(after)


def stepped(optimizer: Optimizer) -> bool:
    """Return whether a step since the last `zero_grad()` left something for `monitor` to read.

    A trainer's step may be none: the gradient scaler skips it, or gradients are accumulated.
    """
    try:
        _unwrapped(optimizer).residual_norm()
    except RuntimeError:
        return False
    return True


def clock(optimizer: Optimizer) -> int:
    """Return the number of steps that the optimizer has learned from."""
    outer = _unwrapped(optimizer)
    learner = outer.estimator if isinstance(outer, Estimated) else outer
    return max(int(group["step"]) for group in learner.param_groups)


def _unwrapped(optimizer: Any) -> Estimator | Estimated:
    inner = optimizer
    while not isinstance(inner, Estimator | Estimated):
        if not hasattr(inner, "optimizer"):
            raise TypeError(
                f"{type(optimizer).__name__} holds no Trainable Optimizer: give a DiagonalTO, "
                "RankOneTO, FullTO or Estimated."
            )
        inner = inner.optimizer
    return inner


def _named(name: str, values: list[float]) -> dict[str, float]:
    """One value under its name, or one per group where they differ."""
    if len(set(values)) == 1:
        return {name: values[0]}
    return {f"{name}_{i}": value for i, value in enumerate(values)}


def _compared(found: list[Tensor], truth: list[Tensor]) -> tuple[float, float]:
    """‖found − truth‖ / ‖truth‖, and their cosine."""
    difference = sum(_square(x - y) for x, y in zip(found, truth, strict=True))
    product = sum(_dot(x, y) for x, y in zip(found, truth, strict=True))
    size, reference = (max(sum(map(_square, xs)) ** 0.5, 1e-300) for xs in (found, truth))
    return difference**0.5 / reference, product / size / reference


def _square(x: Tensor) -> float:
    """‖x‖² in float64."""
    wide = torch.promote_types(x.dtype, torch.float64)
    return float(gathered(torch.linalg.vector_norm(x.detach(), dtype=wide))) ** 2


def _dot(x: Tensor, y: Tensor) -> float:
    """xᵀy in float64, of complex tensors as of pairs of reals."""
    x, y = (torch.view_as_real(z) if z.is_complex() else z for z in (x.detach(), y.detach()))
    return float(gathered((x.double() * y.double()).sum()))
