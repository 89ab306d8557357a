"""What an optimizer and its estimator must have in common, and how a checkpoint holds both."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from .estimator import Estimator

PREFIX = "estimator."
"""Of the estimator's variables, among a parameter's state."""


def check_pair(optimizer: Optimizer, estimator: Estimator) -> None:
    """Raise a TypeError or ValueError unless `optimizer` can step along what `estimator` learns."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}: give a torch optimizer, such as "
            "torch.optim.AdamW(model.parameters())."
        )
    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"estimator is a {type(estimator).__name__}: give an Estimator, or a DiagonalTO, "
            "RankOneTO or FullTO."
        )
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"{type(optimizer).__name__} evaluates the model within its step, at weights that have "
            "no estimate: give an optimizer whose step needs no closure."
        )
    check_same_params(optimizer, estimator)
    if any(group.get("maximize") for group in estimator.param_groups):
        raise ValueError(
            "the estimator has maximize=True, which would negate the gradient that optimizer "
            "sees: give maximize=True to optimizer."
        )


def check_same_params(optimizer: Optimizer, estimator: Estimator) -> None:
    """Raise a ValueError unless both hold the same parameters."""
    inner, learned = ({id(p) for p in params_of(o.param_groups)} for o in (optimizer, estimator))
    if inner != learned:
        raise ValueError(
            f"optimizer and estimator must hold the same parameters: {len(inner - learned)} are "
            f"only in optimizer, {len(learned - inner)} only in estimator. Change the groups of "
            "both, or add parameters by add_param_group of Estimated."
        )


def hold_fresh_clocks(optimizer: Optimizer, estimator: Estimator, started: list[Tensor]) -> None:
    """Leave a fresh clock at 0 while every lr is 0, as a Trainable Optimizer on its own does.

    `torch.distributed.checkpoint` takes such a step, with gradients 0, to allocate state.

    Args:
        optimizer: the one that steps.
        estimator: whose clocks these are.
        started: for each of its groups, whether its clock ran before this step.
    """
    rates = [group.get("lr") for group in optimizer.param_groups]  # None: the optimizer's own
    tensors = [rate for rate in rates if isinstance(rate, Tensor)]
    if any(rate != 0 for rate in rates if not isinstance(rate, Tensor)):
        return
    for group, running in zip(estimator.param_groups, started, strict=True):
        step = group["step"]  # stays on the device: a CUDA graph may be recording
        moves = [(rate != 0).reshape(()).to(step.device) for rate in tensors]
        step.mul_(torch.stack([running, *moves]).any())


def call_if_there(optimizer: Optimizer, method: str) -> None:
    """Call a method without arguments where the optimizer has it."""
    found = getattr(optimizer, method, None)
    if callable(found):
        found()


def params_of(groups: list[dict[str, Any]]) -> Iterator[Any]:
    """Return what all param groups hold, in their order."""
    return (p for group in groups for p in group["params"])


def split(entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inner optimizer's and the estimator's part of a parameter's saved state."""
    inner = {k: v for k, v in entry.items() if not str(k).startswith(PREFIX)}
    learned = {k.removeprefix(PREFIX): v for k, v in entry.items() if k not in inner}
    return inner, learned
