"""A step that can be taken back: copies of everything that it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .model import gathered

if TYPE_CHECKING:
    from .estimator import Estimator


class Undo:
    """Weights, variables and clocks before a step, as copies: (1 + state) d numbers while it lives.

    Args:
        optimizer: that steps in place, with its state made.
        params: those of its parameters that have a gradient, which are all that a step changes.
    """

    def __init__(self, optimizer: Estimator, params: list[Tensor]) -> None:
        self._changed = [p.detach() for p in params]
        self._changed += [value for p in params for value in optimizer.state[p].values()]
        self._changed += [group["step"] for group in optimizer.param_groups]
        self._kept = [x.clone() for x in self._changed]

    @torch.no_grad()
    def __call__(self) -> None:
        """Take the step back: every number is what it was."""
        for x, kept in zip(self._changed, self._kept, strict=True):
            x.copy_(kept)


def total_norm(tensors: list[Tensor]) -> float:
    """Return the norm of all tensors together, inf where float32 can't hold its square.

    O(d), one wait for the device. With sharded tensors every process must ask.
    """
    numbers = [x for x in tensors if x.numel()]
    plain = [x for x in numbers if not hasattr(x, "full_tensor")]
    norms = [gathered(torch.linalg.vector_norm(x)) for x in numbers if hasattr(x, "full_tensor")]
    alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for x in plain:
        alike.setdefault((x.device, x.dtype), []).append(x)
    for (_, dtype), group in alike.items():
        # The norm of float16 numbers often isn't a float16 number.
        wide = torch.float32 if dtype == torch.float16 else None
        norms += torch._foreach_norm(group, 2, wide)
    if not norms:
        return 0.0
    device = norms[0].device
    return float(
        torch.linalg.vector_norm(torch.stack([norm.to(device, torch.float64) for norm in norms]))
    )


def finite(norm: float) -> bool:
    """Return whether a norm is that of finite numbers."""
    return norm < float("inf")  # NaN isn't
