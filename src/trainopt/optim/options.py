"""What the paper's three variants have in common in their signatures and docstrings."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict, TypeVar

import torch

from .estimator import Estimator
from .response import Action
from .stepping import TrainableOptimizer

Variant = TypeVar("Variant", bound=type[TrainableOptimizer])


class Options(TypedDict, total=False):
    """Keyword arguments that every variant takes; `TrainableOptimizer` has their defaults."""

    weight_decay: float
    state_dtype: torch.dtype | None
    maximize: bool
    foreach: bool | None
    fused: bool | None
    keep_estimate: bool
    capturable: bool
    differentiable: bool
    on_instability: Action | None


_FIRST = """
    Args:
        params: parameters, named parameters or param groups.
        lr: learning rate γ: float, one-element tensor or schedule.
        alpha: rate of A, likewise. 0 switches learning of A off: momentum, or SGD when beta = 1.
            Default: 0.01.
        beta: rate of b, likewise. Default: 1, the paper's; untuned, 0.3 ends lower
            (docs/settings.md).
        weight_decay: decoupled decay, w ← (1 − γ·weight_decay) w. Default: 0."""
_LAST = """
        state_dtype: dtype of A's variables and b. Default: that of the parameter, and float32 for
            float16 and bfloat16 parameters.
        maximize: ascend instead of descend.
        foreach: update all tensors of a group with `torch._foreach_*` kernels. Default: as
            torch.optim chooses, on for CUDA.
        fused: do the step in one pass over memory by a kernel: C++ on the CPU, compiled once by the
            C++ compiler that it needs, Triton on CUDA (none for a dense A). Default: where there is
            one; False, or a `foreach`, switches it off, and True raises where there is none.
        keep_estimate: keep Ĝ after a step, for `estimate`; costs memory traffic. Default: False.
        capturable: keep the clock on the device, for CUDA graphs and for rates that are CUDA
            tensors.
        differentiable: let gradients flow through `step()`, into lr, alpha and beta too.
        on_instability: "warn", "raise", "skip" the step, or "reset" A and b, when something isn't
            finite, the residual explodes or alpha is too large; see `Estimator`. Default: None.

    Raises:
        ValueError, TypeError: a setting can't work; the sentence names it, its value and what to
            do."""


def with_options(cls: Variant) -> Variant:
    """Write the options of `Options` out in the signature and the docstring of a variant."""
    own = inspect.signature(cls.__init__)
    known: dict[str, Any] = {}
    for base in (Estimator, TrainableOptimizer):
        known |= inspect.signature(base.__init__).parameters
    named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in Options.__annotations__
    ]
    signature = own.replace(parameters=[*named, *options])
    cls.__init__.__signature__ = signature  # type: ignore[attr-defined]
    text, _, more = (cls.__doc__ or "").partition("\n    Args:")
    arguments, _, raised = more.partition("\n\n    Raises:")
    cls.__doc__ = f"{text.rstrip()}\n{_FIRST}{arguments.rstrip()}{_LAST}{raised.rstrip()}\n    "
    return cls
