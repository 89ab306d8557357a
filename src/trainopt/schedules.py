"""Rates that change with time: small frozen objects that live in a param group.

A schedule is a pure function of the step t = 0, 1, 2, … It holds no counter, so that a state dict
carries it whole and a resumed run continues bit for bit. `t` may be a float or a 0-dim tensor; the
rate has the same kind, which keeps `torch.compile` and CUDA graphs free of recompilation.
"""

from __future__ import annotations

import copyreg
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NoReturn

import torch
from torch import Tensor


class Schedule(ABC):
    """A rate as a function of the step t. Subclass it as a frozen dataclass to add your own.

    A checkpoint holds the name of the class and its fields, so `torch.load` takes it with
    `weights_only=True` wherever a class of this name exists.

    Raises:
        TypeError: it is used as a number, as the schedulers of `torch.optim` do.
    """

    @abstractmethod
    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return the rate at step `t` (the first step is t = 0)."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Name the class by a string where `torch.save` asks, which writes protocol 2.

        `torch.load` would refuse the class itself, which this also spares `add_safe_globals`: two
        classes of one name would be one too many there.
        """
        made: Any = super().__reduce_ex__(protocol)
        if protocol > 2 or made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made
        (cls, *args), state = made[1:3]
        return _restored, (_full_name(cls), tuple(args), state)

    def _is_no_number(self, *_: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} is a schedule, not a number: give a float lr where a torch.optim scheduler "
            "or a trainer changes it; a schedule called with a step t returns its rate."
        )

    __float__ = __int__ = __abs__ = __neg__ = __pos__ = __round__ = _is_no_number
    __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _is_no_number
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = _is_no_number
    __rmod__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = _is_no_number


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _subclasses(cls: type) -> Iterator[type]:
    children: list[type] = cls.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _restored(name: str, args: tuple[Any, ...], state: Any) -> Any:
    """What a checkpoint calls: it makes schedules only, and imports nothing."""
    found = [cls for cls in _subclasses(Schedule) if _full_name(cls) == name]
    if not found:
        raise AttributeError(
            f"the checkpoint holds a schedule {name}, which isn't defined here: import or define "
            "the class, under the same name, before you load it."
        )
    schedule = found[-1].__new__(found[-1], *args)  # the latest: a notebook's cell ran twice
    if hasattr(schedule, "__setstate__"):
        schedule.__setstate__(state)
    else:  # what pickle does: a dict, or a dict and one of slots
        for fields in state if isinstance(state, tuple) else (state,):
            for field, value in (fields or {}).items():
                object.__setattr__(schedule, field, value)
    return schedule


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate for ever.

    Args:
        value: the rate, finite and ≥ 0.
    """

    value: float

    def __post_init__(self) -> None:
        _check(self, "value", self.value >= 0, "≥ 0")

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return `value`."""
        return self.value


@dataclass(frozen=True)
class InverseTime(Schedule):
    """c / (t + μ), the decay of Theorem 3.4.

    Args:
        c: numerator, finite and ≥ 0; the first rate is c / μ.
        mu: offset in steps, finite and > 0. Default: 1.
    """

    c: float
    mu: float = 1.0

    def __post_init__(self) -> None:
        _check(self, "c", self.c >= 0, "≥ 0")
        _check(self, "mu", self.mu > 0, "> 0")

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return c / (t + μ)."""
        return self.c / (t + self.mu)


@dataclass(frozen=True)
class Exponential(Schedule):
    """initial · factor^⌊t / every⌋: decay at every step, or once per epoch.

    Args:
        initial: the first rate, finite and ≥ 0.
        factor: multiplier, finite and > 0; below 1 the rate decays.
        every: steps between two decays, an integer ≥ 1. Default: 1, every step; set it to the
            number of steps of an epoch to decay once per epoch.
    """

    initial: float
    factor: float
    every: int = 1

    def __post_init__(self) -> None:
        _check(self, "initial", self.initial >= 0, "≥ 0")
        _check(self, "factor", self.factor > 0, "> 0")
        _check(self, "every", self.every >= 1 and self.every == int(self.every), "≥ 1, whole")

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return initial · factor^⌊t / every⌋, infinite where it is too large for a float."""
        try:
            growth = self.factor ** (t // self.every)
        except OverflowError:  # a tensor becomes infinite by itself
            growth = math.inf
        return self.initial * growth if self.initial else 0.0


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from `initial` down to `end` at step `steps`, and `end` from then on.

    Args:
        initial: the first rate, finite and ≥ 0.
        steps: when the last rate is reached, finite and > 0.
        end: the last rate, finite and ≥ 0. Default: 0.
    """

    initial: float
    steps: float
    end: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "initial", self.initial >= 0, "≥ 0")
        _check(self, "steps", self.steps > 0, "> 0")
        _check(self, "end", self.end >= 0, "≥ 0")

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return end + (initial − end) · (1 + cos(π · min(t / steps, 1))) / 2."""
        if isinstance(t, Tensor):
            wave: float | Tensor = torch.cos(math.pi * torch.clamp(t / self.steps, max=1.0))
        else:
            wave = math.cos(math.pi * min(t / self.steps, 1.0))
        return self.end + (self.initial - self.end) * (1 + wave) / 2


def _check(schedule: Schedule, name: str, holds: bool, allowed: str) -> None:
    value = getattr(schedule, name)
    if not (math.isfinite(value) and holds):
        raise ValueError(f"{name}={value} is not allowed: give a finite number {allowed}.")
    if not isinstance(value, Tensor):
        # A NumPy number would be one in checkpoints, and `torch.load` refuses it.
        kind = int if isinstance(value, Integral) else float
        object.__setattr__(schedule, name, kind(value))


# `torch.load` refuses unknown globals. The classes are in checkpoints of earlier versions.
torch.serialization.add_safe_globals([_restored, Constant, InverseTime, Exponential, Cosine])
