"""What the last step left to be asked for: its estimates and its residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .model import gathered


class StepRecord(NamedTuple):
    """What a step on some tensors leaves.

    Attributes:
        params: the parameters.
        estimate: Ĝ of each, real; None where it isn't kept.
        residual: tensors whose joint norm is ‖e‖.
    """

    params: list[Tensor]
    estimate: list[Tensor] | None
    residual: list[Tensor]


class LastStep:
    """The records of the last step.

    An object of its own, since torch.compile loses what is assigned to an attribute of an
    optimizer.
    """

    def __init__(self) -> None:
        self.set([])

    def set(self, records: list[StepRecord]) -> None:
        """Forget the step before, and keep this one."""
        self.records = records
        self._estimates: dict[Tensor, Tensor | None] | None = None

    def estimate(self, param: Tensor) -> Tensor:
        """Return Ĝ for `param`; see `Estimator.estimate`."""
        if self._estimates is None:
            self._estimates = {}
            for params, kept, _ in self.records:
                estimates = kept if kept is not None else [None] * len(params)
                self._estimates.update(zip(params, estimates, strict=True))
        if param not in self._estimates:
            raise KeyError(
                f"no estimate for the parameter of shape {tuple(param.shape)}: "
                "ask between step() and zero_grad(), for a parameter that had a gradient."
            )
        value = self._estimates[param]
        if value is None:
            raise KeyError(
                "the estimate of this step wasn't kept: give keep_estimate=True, to the optimizer "
                "or in its param group."
            )
        return torch.view_as_complex(value) if param.is_complex() else value

    def residual_norm(self) -> Tensor:
        """Return ‖e‖₂ over all parameters; see `Estimator.residual_norm`."""
        pieces = [piece for record in self.records for piece in record.residual]
        if not pieces:
            raise RuntimeError("no residual yet: ask between step() and zero_grad().")
        norms = [gathered(torch.linalg.vector_norm(piece)) for piece in pieces]
        if len(norms) == 1:
            return norms[0]
        total: Tensor = torch.linalg.vector_norm(
            torch.stack([norm.to(norms[0].device) for norm in norms])
        )
        return total


def evaluated(closure: Callable[[], float] | None) -> float | None:
    """Return what the closure of a step returns, called with gradients enabled."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
