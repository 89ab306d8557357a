"""How A and b are learned: at which rates, and what A reads.

A step takes θ' = θ + ∂_θ⟨η e, A_θ x⟩ and b' = b + β e. A learning rule says η and β; a reading says
x, the vector that A acts on. They are frozen dataclasses whose fields are settings of a param
group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from .forms import Form
from .settings import Rate

# Keeps a rate finite where A reads zeros, of which it can learn nothing.
EPSILON = 1e-12


@dataclass(frozen=True)
class Gradient:
    """The paper's rule: η = α, one gradient step on ½‖g − A x − b‖².

    The residual after the update is (1 − β − α·gain) e, with the gain ‖x‖² for a dense A: it grows
    when the weights are large for α.

    Args:
        alpha: rate of A: a number ≥ 0, a one-element tensor or a schedule. Default: 0.01.
        beta: rate of b, likewise. Default: 1, the paper's; untuned, 0.3 ends lower
            (docs/settings.md).
    """

    alpha: Rate = 0.01
    beta: Rate = 1.0

    def rate(
        self, form: Form, x: Tensor, variables: Sequence[Tensor], alpha: float | Tensor
    ) -> float | Tensor:
        """Return η for the α of this step: what e is multiplied with; 0-dim, or shaped as e."""
        return alpha

    def estimate(self, g: Tensor, e: Tensor, change: Tensor, beta: float | Tensor) -> Tensor:
        """Return Ĝ = A' x + b' = g − (1 − β) e + (A' − A) x, from change = (A' − A) x."""
        return g - e * (1 - beta) + change


@dataclass(frozen=True)
class Normalised(Gradient):
    """The gradient rule at the rate α / (ε + gain), which no size of the weights upsets.

    For a form that is linear in θ, (A' − A) x = M η e with M = JJᵀ, whose eigenvalues λ lie in
    [0, gain]; where `gain` has a number for every block of M, so has η, and each block is scaled as
    a whole. So the factors of the residual, 1 − β − α λ / (ε + gain), lie in [1 − β − α, 1 − β] for
    every x: inside (−1, 1) whenever 0 < β and α + β < 2.

    Args:
        alpha: rate of A. Default: 0.5.
        beta: rate of b. Default: 0.1.
    """

    alpha: Rate = 0.5
    beta: Rate = 0.1

    def rate(
        self, form: Form, x: Tensor, variables: Sequence[Tensor], alpha: float | Tensor
    ) -> float | Tensor:
        """Return η for the α of this step: what e is multiplied with; 0-dim, or shaped as e."""
        return alpha / (EPSILON + form.gain(x, *variables))


@dataclass(frozen=True)
class Weights:
    """A reads the weights themselves: x = w, as in the paper."""

    variables: ClassVar[tuple[str, ...]] = ()

    def init(self, w: Tensor) -> tuple[Tensor, ...]:
        """Return the variables of this reading at t = 0, shaped as w."""
        return ()

    def read(self, w: Tensor, *variables: Tensor) -> Tensor:
        """Return x, shaped as w."""
        return w

    def update(self, w: Tensor, *variables: Tensor) -> tuple[Tensor, ...]:
        """Return the variables after a step at w."""
        return ()


@dataclass(frozen=True)
class Centred(Weights):
    """A reads w − w̄, where the running mean w̄ starts at w and follows it; d numbers more.

    Near a minimum the weights hardly differ from their mean: what A reads is small and centred, so
    that A learns slopes while b learns the level.

    Args:
        rate: of w̄ ← w̄ + rate (w − w̄) after each step, in (0, 1]. Default: 0.01.
    """

    variables: ClassVar[tuple[str, ...]] = ("mean",)

    rate: float = 0.01

    def __post_init__(self) -> None:
        rate: Any = self.rate
        if isinstance(rate, bool) or not isinstance(rate, Real):
            raise TypeError(f"rate={rate!r} is a {type(rate).__name__}: give a number in (0, 1].")
        if not 0 < float(rate) <= 1:
            raise ValueError(f"rate={rate} is not allowed: give a number in (0, 1].")

    def init(self, w: Tensor) -> tuple[Tensor, ...]:
        """Return w̄ = w."""
        return (w.clone(),)

    def read(self, w: Tensor, *variables: Tensor) -> Tensor:
        """Return w − w̄."""
        (mean,) = variables
        return w - mean

    def update(self, w: Tensor, *variables: Tensor) -> tuple[Tensor, ...]:
        """Return w̄ + rate (w − w̄)."""
        (mean,) = variables
        return (torch.lerp(mean, w, self.rate),)
