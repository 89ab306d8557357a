"""Settings of a param group: what is allowed, and what a rate is at step t."""

from __future__ import annotations

import dataclasses
import functools
import math
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from .schedules import Schedule

RATES = ("lr", "alpha", "beta")
T = TypeVar("T")

Rate = float | Tensor | Schedule
"""A learning rate γ, α or β: a number, a one-element tensor or a schedule."""


def rate_at(rate: Rate, t: float | Tensor) -> float | Tensor:
    """Return the value of a rate at step t: a float, or a 0-dim tensor.

    NumPy numbers become floats: torch's arithmetic treats them in its own way, and
    `torch.optim.lr_scheduler` writes them into groups where a lambda uses `np.cos`.
    """
    value = rate(t) if isinstance(rate, Schedule) else rate
    return value.reshape(()) if isinstance(value, Tensor) else float(value)


def settings_of(part: Any) -> dict[str, Any]:
    """Return the fields of a form, a learning rule or a reading, as settings of a param group."""
    return {setting: getattr(part, field) for field, setting in _fields(part)}


def with_settings(part: T, group: dict[str, Any]) -> T:
    """Return the form, rule or reading with its fields as the param group has them."""
    fields = _fields(part)
    if all(group[setting] is getattr(part, field) for field, setting in fields):
        return part
    chosen = {field: group[setting] for field, setting in fields}
    return dataclasses.replace(part, **chosen)  # type: ignore[type-var]


def _fields(part: Any) -> list[tuple[str, str]]:
    """The fields of a dataclass, each with the name of its setting."""
    # torch.compile warns of a cache that it looks through.
    return (_found_fields if torch.compiler.is_compiling() else _kept_fields)(type(part))


def _found_fields(kind: type) -> list[tuple[str, str]]:
    if not dataclasses.is_dataclass(kind):
        return []
    return [(f.name, f.metadata.get("setting", f.name)) for f in dataclasses.fields(kind)]


_kept_fields = functools.cache(_found_fields)


def check_group(group: dict[str, Any]) -> None:
    """Raise a ValueError or TypeError that names the first setting of `group` that can't work."""
    for name in RATES:
        if name in group:
            _check_rate(name, group[name], group)
    check_number("weight_decay", group.get("weight_decay", 0.0))
    if group.get("scope", "tensor") not in ("tensor", "group"):
        raise ValueError(f"scope={group['scope']!r} is not known: give 'tensor' or 'group'.")
    dtype = group["state_dtype"]
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"state_dtype={dtype!r} can't hold a, b: give a real floating dtype.")
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach=True and fused=True exclude each other: give one of them.")
    if group["differentiable"] and group["fused"]:
        raise ValueError("fused=True can't be differentiated: give differentiable=False.")


def _check_rate(name: str, rate: Any, group: dict[str, Any]) -> None:
    if isinstance(rate, Schedule):
        return
    if not isinstance(rate, Tensor):
        return check_number(name, rate, "a finite number ≥ 0, a one-element tensor or a schedule")
    if rate.numel() != 1 or not rate.is_floating_point():
        raise ValueError(
            f"Tensor {name} must be 1-element and floating-point: it is {rate.dtype} of shape "
            f"{tuple(rate.shape)}."
        )
    devices = {p.device for p in group["params"]}
    if rate.device.type != "cpu" and not (group["capturable"] and devices == {rate.device}):
        raise ValueError(
            f"{name} is a tensor on {rate.device}: keep it on the CPU, or on the device of the "
            "parameters with capturable=True."
        )
    check_number(name, float(rate.detach()))


def check_count(name: str, value: Any) -> None:
    """Raise a ValueError or TypeError unless a setting is a whole number ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: give a whole number ≥ 1.")
    if value < 1:
        raise ValueError(f"{name}={value} is not allowed: give a whole number ≥ 1.")


def check_number(
    name: str, value: Any, allowed: str | None = None, *, positive: bool = False
) -> None:
    """Raise a ValueError or TypeError unless a setting is a finite number ≥ 0, or > 0.

    Args:
        name: of the setting.
        value: of it.
        allowed: what the sentence asks for, where numbers aren't all that may be given.
        positive: whether 0 is refused.
    """
    allowed = allowed or f"a finite number {'>' if positive else '≥'} 0"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: give {allowed}.")
    if not (math.isfinite(value) and float(value) >= 0) or (positive and value == 0):
        raise ValueError(f"{name}={value} is not allowed: give {allowed}.")
