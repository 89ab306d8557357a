"""The optimizers as batched functions: one step of many runs side by side.

`harness.optimizers` builds each of them for one run, as a user does; here the same mathematics has
a leading axis of runs, and every setting is a column with one number per run. A test holds the two
together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from trainopt.forms import Diagonal, Form, RankOne
from trainopt.harness.ablations import FirstStep, Lagged
from trainopt.learning import EPSILON, Normalised
from trainopt.learning import Gradient as Rule
from trainopt.rules import learn
from trainopt.schedules import Constant, Schedule

State: TypeAlias = dict[str, Tensor]
Gradient: TypeAlias = Callable[[Tensor], Tensor]
"""Mini-batch gradients, (runs, d), at weights (runs, d)."""
Rates: TypeAlias = dict[str, Tensor]
"""Every setting as (runs, 1) at the present step, and "t" = 1, 2, …, 0-dim."""
Step: TypeAlias = Callable[[Tensor, Gradient, State, Rates], tuple[Tensor, Tensor]]
"""step(w, gradient, state, rates) -> new w, estimate Ĝ; it updates `state`."""


def _same(w: Tensor, state: State, rates: Rates) -> Tensor:
    return w


@dataclass(frozen=True)
class Method:
    """One optimizer for many runs.

    Attributes:
        start: the state of runs at w (runs, d), for a number of steps that is known.
        step: one step.
        judged: where the runs are judged, from w, state and the rates of the last step.
        passes: passes over the data that an epoch of steps costs.
        anchor: called before each epoch with the state, w and the full gradients there.
    """

    start: Callable[[Tensor, int], State]
    step: Step
    judged: Callable[[Tensor, State, Rates], Tensor] = _same
    passes: int = 1
    anchor: Callable[[State, Tensor, Tensor], None] | None = None


def _zeros(*names: str) -> Callable[[Tensor, int], State]:
    return lambda w, steps: {name: torch.zeros_like(w) for name in names}


# Trainable Optimizers ------------------------------------------------------------------------


def _learning(
    form: Form, rule: Rule, *, alpha: Schedule | None = None, beta: Schedule | None = None
) -> Step:
    """The step of a form and a rule; `alpha`, `beta` where they are known beforehand."""
    names = (*form.variables, "b")

    def one(w, g, variables, alpha, beta):  # type: ignore[no-untyped-def]
        learned = learn(form, rule, w, g, *variables, alpha=alpha, beta=beta)
        return learned.variables, learned.estimate

    many = torch.vmap(one)

    def step(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
        rates = [
            h[name][:, 0]
            if known is None
            else w.new_full((len(w),), float(known(float(h["t"]) - 1)))
            for name, known in (("alpha", alpha), ("beta", beta))
        ]
        variables = tuple(s[name] for name in names)
        learned, estimate = many(w, gradient(w), variables, *rates)
        s.update(zip(names, learned, strict=True))
        return w - h["lr"] * estimate, estimate

    return step


def _rank_one_start(w: Tensor, steps: int) -> State:
    state = _zeros("a", "c", "b")(w, steps)
    state["c"] += w.shape[1] ** -0.5
    return state


def _full_start(w: Tensor, steps: int) -> State:
    """A, or, where a run has fewer steps than that is worth, the rank-one terms it is a sum of."""
    runs, d = w.shape
    if steps < 2 * d:
        return {
            "b": torch.zeros_like(w),
            "residuals": w.new_zeros(runs, steps, d),
            "weights": w.new_zeros(runs, steps, d),
        }
    return {"b": torch.zeros_like(w), "A": w.new_zeros(runs, d, d)}


def _full_step(
    w: Tensor, gradient: Gradient, s: State, h: Rates, normalised: bool = False
) -> tuple[Tensor, Tensor]:
    """Full-TO; with A = Σ (α e) wᵀ over the steps so far, A w costs 2 t d instead of d²."""
    g, alpha, beta = gradient(w), h["alpha"], h["beta"]
    if normalised:
        alpha = alpha / (EPSILON + w.square().sum(1, keepdim=True))
    e = g - s["b"]
    if "A" in s:
        e -= torch.bmm(s["A"], w[:, :, None])[:, :, 0]
        s["A"].baddbmm_((alpha * e)[:, :, None], w[:, None, :])
    else:
        t = int(h["t"])
        past = torch.bmm(s["weights"][:, : t - 1], w[:, :, None])
        e -= torch.bmm(past.transpose(1, 2), s["residuals"][:, : t - 1])[:, 0]
        s["residuals"][:, t - 1] = alpha * e
        s["weights"][:, t - 1] = w
    s["b"] += beta * e
    estimate = g - (1 - beta - alpha * w.square().sum(1, keepdim=True)) * e
    return w - h["lr"] * estimate, estimate


# What a user would pick instead --------------------------------------------------------------


def _sgd(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    g = gradient(w)
    return w - h["lr"] * g, g


def _averaged(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    w, g = _sgd(w, gradient, s, h)
    s["average"] += (1 + h["eta"]) / (h["t"] + h["eta"]) * (w - s["average"])
    return w, g


def _momentum(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    buffer = s["buffer"]
    buffer.mul_(1 - h["one_minus_momentum"]).add_(gradient(w))
    return w - h["lr"] * buffer, buffer * h["one_minus_momentum"]


def _adam(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    """ADAM, and AdamW where there is a weight decay; β₂ = 0.999, ε = 1e-8."""
    g, t = gradient(w), float(h["t"])
    if "weight_decay" in h:
        w = w * (1 - h["lr"] * h["weight_decay"])
    s["mean"] += h["one_minus_beta1"] * (g - s["mean"])
    s["square"].mul_(0.999).addcmul_(g, g, value=0.001)
    mean = s["mean"] / (1 - (1 - h["one_minus_beta1"]) ** t)
    root = (s["square"] / (1 - 0.999**t)).sqrt_().add_(1e-8)
    return torch.addcmul(w, -h["lr"], mean / root), mean


def _adagrad(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    g = gradient(w)
    s["sum"].addcmul_(g, g)
    return w - h["lr"] * g / (s["sum"].sqrt() + 1e-10), g


def _rmsprop(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    g = gradient(w)
    s["square"] += h["one_minus_alpha"] * (g * g - s["square"])
    return w - h["lr"] * g / (s["square"].sqrt() + 1e-8), g


def _schedule_free(
    w: Tensor, g: Tensor, direction: Tensor, keep: Tensor, s: State, h: Rates
) -> Tensor:
    """Schedule-free averaging: `w` is y, where gradients are taken; `keep` is the momentum."""
    lr = h["lr"]
    s["lr_max"] = torch.maximum(lr, s["lr_max"])
    weight = s["lr_max"].square()
    s["weights"] = s["weights"] + weight
    share = weight / s["weights"]
    w = torch.lerp(w, s["z"], share.expand_as(w)) + lr * (keep * (1 - share) - 1) * direction
    s["z"] = s["z"] - lr * direction
    return w


def _schedule_free_start(w: Tensor, steps: int) -> State:
    column = w.new_zeros(len(w), 1)
    return {"z": w.clone(), "lr_max": column, "weights": column, "square": torch.zeros_like(w)}


def _schedule_free_sgd(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    g = gradient(w)
    return _schedule_free(w, g, g, 1 - h["one_minus_momentum"], s, h), g


def _schedule_free_adamw(
    w: Tensor, gradient: Gradient, s: State, h: Rates
) -> tuple[Tensor, Tensor]:
    g, t = gradient(w), float(h["t"])
    s["square"].mul_(0.999).addcmul_(g, g, value=0.001)
    root = (s["square"] / (1 - 0.999**t)).sqrt_().add_(1e-8)
    return _schedule_free(w, g, g / root, 1 - h["one_minus_beta1"], s, h), g


def _at_x(name: str) -> Callable[[Tensor, State, Rates], Tensor]:
    def judged(w: Tensor, s: State, h: Rates) -> Tensor:
        return torch.lerp(w, s["z"], (1 - 1 / (1 - h[name])).expand_as(w))

    return judged


# Variance reduction --------------------------------------------------------------------------


def _svrg(w: Tensor, gradient: Gradient, s: State, h: Rates) -> tuple[Tensor, Tensor]:
    estimate = gradient(w) - gradient(s["anchor"]) + s["full"]
    return w - h["lr"] * estimate, estimate


def _svrg_anchor(s: State, w: Tensor, full_gradient: Tensor) -> None:
    s.update(anchor=w.clone(), full=full_gradient)


METHODS: dict[str, Method] = {
    "full": Method(_full_start, _full_step),
    "diagonal": Method(_zeros("a", "b"), _learning(Diagonal(), Rule())),
    "rankone": Method(_rank_one_start, _learning(RankOne(), Rule())),
    "full-normalised": Method(_full_start, partial(_full_step, normalised=True)),
    "diagonal-normalised": Method(_zeros("a", "b"), _learning(Diagonal(), Normalised())),
    "rankone-normalised": Method(_rank_one_start, _learning(RankOne(), Normalised())),
    "alpha0": Method(_zeros("a", "b"), _learning(Diagonal(), Rule(), alpha=Constant(0.0))),
    "fixed-b": Method(_zeros("a", "b"), _learning(Diagonal(), Rule(), beta=FirstStep())),
    "lagged": Method(_zeros("a", "b"), _learning(Diagonal(), Lagged())),
    "adam": Method(_zeros("mean", "square"), _adam),
    "adam-constant": Method(_zeros("mean", "square"), _adam),
    "adamw": Method(_zeros("mean", "square"), _adam),
    "sgd": Method(_zeros(), _sgd),
    "averaged": Method(_zeros("average"), _averaged, lambda w, s, h: s["average"]),
    "momentum": Method(_zeros("buffer"), _momentum),
    "adagrad": Method(_zeros("sum"), _adagrad),
    "rmsprop": Method(_zeros("square"), _rmsprop),
    "schedulefree-sgd": Method(
        _schedule_free_start, _schedule_free_sgd, _at_x("one_minus_momentum")
    ),
    "schedulefree-adamw": Method(
        _schedule_free_start, _schedule_free_adamw, _at_x("one_minus_beta1")
    ),
    # An epoch of steps at two gradients each, and the full gradient at its start.
    "svrg": Method(_zeros("anchor", "full"), _svrg, passes=3, anchor=_svrg_anchor),
}
