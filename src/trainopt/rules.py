"""The mathematics: one step of a Trainable Optimizer, as pure functions.

    e  = g − A x − b               residual of the linear model of the gradient; A reads x
    θ' = θ + ∂_θ⟨η e, A_θ x⟩       the variables of A, at the rate η of the learning rule
    b' = b + β e
    Ĝ  = A' x + b'                 the estimate uses the updated variables
    w' = w − γ Ĝ

The paper's rule is η = α with x = w: one gradient step on ½‖g − A w − b‖², for which a dense A
gains α e wᵀ.

The estimate is written as g plus a correction, Ĝ = g − (1 − β) e + (A' − A) x: the same number,
because A x + b = g − e, at no second product with A; and with α = 0, β = 1 it is g to the last bit,
that is, SGD.

`learn` is this for every form of A. The functions after it are what it comes to for the paper's
three and for A = 0 under the paper's rule, in closed form: on `Vectors` they step many tensors at
once, in place where that is allowed. A test holds them to `learn`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

import torch
from torch import Tensor

from .forms import Form
from .learning import Gradient
from .vectors import Scalar, Vector, add, add_, addcmul, addr_, dot, mv


@dataclass(frozen=True)
class Learned(Generic[Vector]):
    """What one step of a rule leaves.

    Attributes:
        variables: θ and b after the update.
        estimate: Ĝ, shaped as g.
        residual: e, shaped as g, before the update.
    """

    variables: tuple[Vector, ...]
    estimate: Vector
    residual: Vector


def learn(
    form: Form,
    rule: Gradient,
    x: Tensor,
    g: Tensor,
    *state: Tensor,
    alpha: Scalar,
    beta: Scalar,
) -> Learned[Tensor]:
    """Any form, any learning rule. Nothing is written in place, so `torch.func` applies.

    Args:
        form: of A.
        rule: says η.
        x: what A reads, shaped as the weights.
        g: stochastic gradient, shaped as the residual.
        state: θ and b.
        alpha: rate of A at this step.
        beta: rate of b.

    Time: two applications of A and the transpose of one.
    """
    *variables, b = state

    def act(*theta: Tensor) -> Tensor:
        return form.apply(x, *theta)

    Ax, transpose = torch.func.vjp(act, *variables)[:2] if variables else (act(), None)
    e = g - Ax - b
    if transpose is not None:
        steps = transpose(e * rule.rate(form, x, variables, alpha))
        variables = [v + step for v, step in zip(variables, steps, strict=True)]
    estimate = rule.estimate(g, e, form.apply(x, *variables) - Ax, beta)
    return Learned((*variables, b + e * beta), estimate, e)


ClosedForm: TypeAlias = Callable[..., Learned[Any]]
"""closed(w, g, *state, alpha=…, beta=…) -> Learned"""


def full(
    w: Vector, g: Vector, A: Vector, b: Vector, *, alpha: Scalar, beta: Scalar
) -> Learned[Vector]:
    """A dense (Algorithm 1): memory d² + d, time one A w and one rank-one update, 6 d² flops.

    Args:
        w: the vector that A reads, (d,).
        g: stochastic gradient, (d,), or the rows of it that `A` holds.
        A: (d, d), or a block of its rows per vector of `g`.
        b: shaped as g.
        alpha: rate of A.
        beta: rate of b.
    """
    e = g - mv(A, w) - b
    estimate = g - e * (1 - beta) + e * (alpha * dot(w, w))
    return Learned((addr_(A, e * alpha, w), add_(b, e, beta)), estimate, e)


def diagonal(
    w: Vector, g: Vector, a: Vector, b: Vector, *, alpha: Scalar, beta: Scalar
) -> Learned[Vector]:
    """A = diag(a) (Algorithm 2): memory 2 d, time O(d). All vectors have the shape of w."""
    e = addcmul(g - b, a, w, value=-1.0)
    ew = e * w
    estimate = addcmul(add(g, e, alpha=beta - 1), ew, w, value=alpha)
    return Learned((add_(a, ew, alpha), add_(b, e, beta)), estimate, e)


def rank_one(
    w: Vector, g: Vector, a: Vector, c: Vector, b: Vector, *, alpha: Scalar, beta: Scalar
) -> Learned[Vector]:
    """A = a cᵀ, never formed (Algorithm 3): memory 3 d, time O(d). All vectors shaped as w.

    a' = a + α s e and c' = c + α (aᵀe) w with s = cᵀw, both from the variables before the step;
    then c'ᵀw = s' = s + α (aᵀe) ‖w‖² and (A' − A) w = a' s' − a s.
    """
    s = dot(c, w)
    e = g - a * s - b
    ae = dot(a, e)
    growth = ae * dot(w, w) * alpha
    estimate = g - e * (1 - beta) + a * growth + e * (s * (s + growth) * alpha)
    return Learned((add_(a, e, s * alpha), add_(c, w, ae * alpha), add_(b, e, beta)), estimate, e)


def zero(w: Vector, g: Vector, b: Vector, *, alpha: Scalar, beta: Scalar) -> Learned[Vector]:
    """A = 0: momentum, memory d, time O(d). All vectors have the shape of w."""
    e = g - b
    return Learned((add_(b, e, beta),), add(g, e, alpha=beta - 1), e)


def descend(w: Vector, estimate: Vector, *, lr: Scalar, weight_decay: float) -> Vector:
    """Return w − γ Ĝ, after the decoupled decay w ← (1 − γ·weight_decay) w."""
    if weight_decay != 0:
        w = add_(w, w, -lr * weight_decay)
    return add_(w, estimate, -lr)
