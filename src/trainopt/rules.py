"""The mathematics: one step of a Trainable Optimizer, as pure functions.

    e  = g − A w − b               residual of the linear model of the gradient
    A' = A + α e wᵀ                one gradient step on ½‖g − A w − b‖² in A
    b' = b + β e                                                       and in b
    Ĝ  = A' w + b'                 the estimate uses the updated variables
    w' = w − γ Ĝ

Every rule takes the weights w, the stochastic gradient g, its variables and the rates α, β, and
returns the new variables, the estimate Ĝ and the residual e. Vectors are `Tensor` or `Vectors`;
with plain tensors nothing is written in place, so `torch.func` transforms apply.

The estimate is written as g plus a correction, Ĝ = g − (1 − β) e + (A' − A) w: the same number,
because A w + b = g − e, at no second product with A; and with α = 0, β = 1 it is g to the last bit,
that is, SGD.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .vectors import Vector, add_outer, add_product, add_scaled, dot, matvec, plus


class Learned(NamedTuple):
    """What one step of a rule leaves behind."""

    variables: tuple[Any, ...]
    """A and b in the form of the variant, after the update."""
    estimate: Any
    """Ĝ, shaped as g."""
    residual: Any
    """e, shaped as g, before the update."""


Rule = Callable[..., Learned]
"""rule(w, g, *variables, alpha=…, beta=…) -> Learned"""


def full(w: Any, g: Vector, A: Vector, b: Vector, *, alpha: Any, beta: Any) -> Learned:
    """A dense (Algorithm 1): memory d² + d, time one A w and one rank-one update, 6 d² flops.

    Args:
        w: the vector that A reads, (d,).
        g: stochastic gradient, (d,), or the rows of it that `A` holds.
        A: (d, d), or a block of its rows per vector of `g`.
        b: shaped as g.
        alpha: rate of A.
        beta: rate of b.
    """
    e = g - matvec(A, w) - b
    estimate = g - e * (1 - beta) + e * (alpha * dot(w, w))
    return Learned((add_outer(A, alpha, e, w), add_scaled(b, beta, e)), estimate, e)


def diagonal(w: Vector, g: Vector, a: Vector, b: Vector, *, alpha: Any, beta: Any) -> Learned:
    """A = diag(a) (Algorithm 2): memory 2 d, time O(d). All vectors have the shape of w."""
    e = add_product(g - b, -1.0, a, w)  # g − a∘w − b
    ew = e * w
    estimate = add_product(plus(g, beta - 1, e), alpha, ew, w)  # g − (1 − β) e + α e∘w²
    return Learned((add_scaled(a, alpha, ew), add_scaled(b, beta, e)), estimate, e)


def rank_one(
    w: Vector, g: Vector, a: Vector, c: Vector, b: Vector, *, alpha: Any, beta: Any
) -> Learned:
    """A = a cᵀ, never formed (Algorithm 3): memory 3 d, time O(d). All vectors shaped as w.

    a' = a + α s e and c' = c + α (aᵀe) w with s = cᵀw, both from the variables before the step;
    then c'ᵀw = s' = s + α (aᵀe) ‖w‖² and (A' − A) w = a' s' − a s.
    """
    s = dot(c, w)
    e = g - a * s - b
    ae = dot(a, e)
    growth = ae * dot(w, w) * alpha
    estimate = g - e * (1 - beta) + a * growth + e * (s * (s + growth) * alpha)
    return Learned(
        (add_scaled(a, s * alpha, e), add_scaled(c, ae * alpha, w), add_scaled(b, beta, e)),
        estimate,
        e,
    )


def descend(w: Vector, estimate: Vector, *, lr: Any, weight_decay: float) -> Vector:
    """Return w − γ Ĝ, after the decoupled decay w ← (1 − γ·weight_decay) w."""
    if weight_decay != 0:
        w = add_scaled(w, -lr * weight_decay, w)
    new: Vector = add_scaled(w, -lr, estimate)
    return new
