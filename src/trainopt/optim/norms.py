"""Norms of many tensors together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .model import gathered


def total_norm(tensors: list[Tensor], norms: Iterable[Tensor] = ()) -> float:
    """Return the norm of all tensors together, inf where float32 can't hold its square.

    Args:
        tensors: of any devices and dtypes. With sharded ones every process must ask.
        norms: of other tensors, 0-dim, to be taken together with them.

    Time O(d), one wait for the device.
    """
    numbers = [x for x in tensors if x.numel()]
    plain = [x for x in numbers if not hasattr(x, "full_tensor")]
    found = [*norms]
    found += [gathered(torch.linalg.vector_norm(x)) for x in numbers if hasattr(x, "full_tensor")]
    alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for x in plain:
        alike.setdefault((x.device, x.dtype), []).append(x)
    for (_, dtype), group in alike.items():
        # The norm of float16 numbers often isn't a float16 number.
        wide = torch.float32 if dtype == torch.float16 else None
        found += torch._foreach_norm(group, 2, wide)
    if len(found) <= 1:
        return float(found[0]) if found else 0.0
    device = found[0].device
    return float(
        torch.linalg.vector_norm(torch.stack([norm.to(device, torch.float64) for norm in found]))
    )


def finite(norm: float) -> bool:
    """Return whether a norm is that of finite numbers."""
    return norm < float("inf")  # NaN isn't
