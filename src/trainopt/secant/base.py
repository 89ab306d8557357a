"""The base phase: any optimizer's steps, until every chunk was seen; it restarts if it diverges."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer

RESTART = 10.0  # the base phase diverges where ‖g‖ is this many times the first one
SLOWER = 4.0  # and starts again with its rate divided by this


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


def slow_down(base: Optimizer) -> None:
    """Make an optimizer begin anew with a lower rate."""
    base.state.clear()
    for group in base.param_groups:
        group["lr"] /= SLOWER
