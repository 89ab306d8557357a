"""The base phase: any optimizer's steps, until every chunk was seen; it restarts if it diverges."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from .run import Run

RESTART = 10.0  # the base phase diverges where ‖g‖ is this many times the first one
SLOWER = 4.0  # and starts again with its rate divided by this


def check_base(base: object, groups: list[dict[str, Any]]) -> None:
    """Raise a TypeError or ValueError unless `base` can take the base phase's steps, or is None."""
    if base is None:
        return
    kind = type(base).__name__
    if not isinstance(base, Optimizer):
        raise TypeError(
            f"base={base!r} is a {kind}: give an optimizer built of the same parameters, such as "
            "torch.optim.Adam(params), or None for SGD."
        )
    if isinstance(base, torch.optim.LBFGS):
        raise TypeError(
            f"base={kind} needs a closure to step: give an optimizer of single gradients, such as "
            "torch.optim.Adam(params), or None for SGD."
        )
    own, other = ({p for g in some for p in g["params"]} for some in (groups, base.param_groups))
    if own != other:
        raise ValueError(
            f"base={kind} holds other parameters than `params`: build it of the same ones."
        )


def base_step(run: Run, groups: list[dict[str, Any]], base: Optimizer | None, norm: float) -> None:
    """Take a step of the base phase, or begin it anew where it diverges.

    Args:
        run: the run.
        groups: SecantTO's param groups, for SGD.
        base: the optimizer that steps; None is SGD at lr / (1 + passes).
        norm: ‖g‖ of the step.
    """
    progress = run.progress
    finite = math.isfinite(norm)
    if not progress.reference and finite:
        progress.reference = norm
    if not (finite and norm <= RESTART * progress.reference):
        run.restart()
        if finite:  # else it would grow with every such gradient, and no longer be a number
            progress.reference *= SLOWER
        progress.slower /= SLOWER
        if base is not None:
            slow_down(base)
    elif base is not None:
        base.step()
    else:
        sgd(groups, progress.slower / (1 + progress.base_steps / run.plan.steps))
        progress.base_steps += 1


def sgd(groups: list[dict[str, Any]], decay: float) -> None:
    """Take a step of w ← w − lr · decay · (g + weight_decay · w) in every param group."""
    for group in groups:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            continue
        grads = [p.grad for p in params]
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        torch._foreach_add_(params, grads, alpha=-group["lr"] * decay)


def allocate(base: Optimizer) -> None:
    """Make an optimizer allocate its state by a step that moves nothing; gradients are 0."""
    rates = [group["lr"] for group in base.param_groups]
    for group in base.param_groups:
        group["lr"] = 0.0
    base.step()
    for group, lr in zip(base.param_groups, rates, strict=True):
        group["lr"] = lr


def slow_down(base: Optimizer) -> None:
    """Make an optimizer begin anew with a lower rate."""
    base.state.clear()
    for group in base.param_groups:
        group["lr"] /= SLOWER
