"""Rates that change with time: small frozen objects that live in a param group.

A schedule is a pure function of the step t = 0, 1, 2, … It holds no counter, so that a state dict
carries it whole and a resumed run continues bit for bit. `t` may be a float or a 0-dim tensor; the
rate has the same kind, which keeps `torch.compile` and CUDA graphs free of recompilation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Schedule(ABC):
    """A rate as a function of the step t. Subclass it as a frozen dataclass to add your own."""

    @abstractmethod
    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return the rate at step `t` (the first step is t = 0)."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate for ever.

    Args:
        value: the rate, finite and ≥ 0.
    """

    value: float

    def __post_init__(self) -> None:
        _check("value", self.value, self.value >= 0, "≥ 0")

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
        _check("c", self.c, self.c >= 0, "≥ 0")
        _check("mu", self.mu, self.mu > 0, "> 0")

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
        _check("initial", self.initial, self.initial >= 0, "≥ 0")
        _check("factor", self.factor, self.factor > 0, "> 0")
        _check("every", self.every, self.every >= 1 and self.every == int(self.every), "≥ 1, whole")

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return initial · factor^⌊t / every⌋."""
        return self.initial * self.factor ** (t // self.every)


def _check(name: str, value: float, holds: bool, wanted: str) -> None:
    if not (math.isfinite(value) and holds):
        raise ValueError(f"{name}={value} is not allowed: give a finite number {wanted}.")


# `torch.load` refuses unknown classes by default; these carry two or three numbers each.
torch.serialization.add_safe_globals([Constant, InverseTime, Exponential])
