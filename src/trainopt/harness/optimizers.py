"""The optimizers a comparison knows: how each is built, and what is searched when it is tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import Tensor
from torch.optim import Optimizer

from trainopt.errors import InputError, did_you_mean
from trainopt.harness.ablations import AveragedSGD, FirstStep, LaggedDiagonalTO
from trainopt.harness.names import BASELINE, DEFAULT, OPTIMIZER_TITLES
from trainopt.optim import DiagonalTO, FullTO, RankOneTO
from trainopt.schedules import Constant, Exponential, InverseTime, Schedule

Settings = dict[str, Any]
Row = dict[str, Any]

# name -> a rate over time, from its first value, the steps of an epoch and of the run. A setting
# `x_schedule` says how the setting `x` changes.
SCHEDULES: dict[str, Callable[[float, int, int], Schedule]] = {
    "constant": lambda rate, epoch, total: Constant(rate),
    "inverse": lambda rate, epoch, total: InverseTime(rate * epoch, epoch),
    "exponential": lambda rate, epoch, total: Exponential(rate, 0.01 ** (1 / total)),
}

# What every optimizer is offered alike.
SHARED: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-3, 30.0, log=True),
    "lr_schedule": CategoricalDistribution(list(SCHEDULES)),
}
# The share of the newest gradient in an average: β here, 1 − μ of momentum, 1 − β₁ of ADAM.
SHARE = FloatDistribution(0.01, 1.0, log=True)
# The same for averages that 1 would switch off or break.
MOMENTUM = FloatDistribution(0.01, 0.999, log=True)
# TO alone has averages that may lengthen with time, as its theory wants: β ~ 1/t.
AVERAGE: dict[str, BaseDistribution] = {
    "beta": SHARE,
    "beta_schedule": CategoricalDistribution(["constant", "inverse"]),
}


@dataclass(frozen=True)
class Entry:
    """One optimizer of the registry.

    Attributes:
        name: what it is called on the command line and in results.
        make: make(params, lr, **settings), with the settings named in `own`.
        estimate: its estimate of the full gradient after a step at `w`, shaped as w.
        own: its own settings and their search ranges, besides `SHARED`.
        start: the settings tried first, before the search.
    """

    name: str
    make: Callable[..., Optimizer]
    estimate: Callable[[Any, Tensor], Tensor]
    start: Settings
    own: dict[str, BaseDistribution] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is called in tables and pictures."""
        return OPTIMIZER_TITLES[self.name]

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Everything that is tuned; a setting of its own takes the place of a shared one."""
        return {**SHARED, **self.own}

    @property
    def without_A(self) -> Entry | None:
        """The same with α = 0 and nothing else changed; None where there is no A to remove."""
        if "alpha" not in self.own:
            return None
        return replace(
            self,
            name=f"{self.name}-{BASELINE}",
            make=partial(self.make, alpha=0.0),
            start={name: value for name, value in self.start.items() if name != "alpha"},
            own={name: space for name, space in self.own.items() if name != "alpha"},
        )

    def build(self, params: list[Tensor], settings: Settings) -> Optimizer:
        """Build the optimizer at its first learning rate.

        Raises:
            InputError: its state doesn't fit in memory.
        """
        own = {name: settings[name] for name in self.own if not name.endswith("_schedule")}
        try:
            optimizer = self.make(params, lr=settings["lr"], **own)
        except MemoryError as error:
            # The library's advice, after the colon, is for those who build it themselves.
            fact, _, _ = str(error).partition(": ")
            others = ",".join(name for name in DEFAULT if name != self.name)
            raise InputError(
                f"{self.name} can't be built: {fact}; choose others, such as --optimizers {others}."
            ) from error
        if hasattr(optimizer, "train"):  # schedule-free ones start in the other mode
            optimizer.train()
        return optimizer


def _gradient(optimizer: Optimizer, w: Tensor) -> Tensor:
    assert w.grad is not None
    return w.grad


def _learned(optimizer: DiagonalTO | FullTO | RankOneTO, w: Tensor) -> Tensor:
    return optimizer.estimate(w)


def _momentum(optimizer: Optimizer, w: Tensor) -> Tensor:
    """The buffer sums gradients; (1 − μ) times it averages them."""
    momentum: float = optimizer.param_groups[0]["momentum"]
    average: Tensor = optimizer.state[w]["momentum_buffer"] * (1 - momentum)
    return average


def _adam(optimizer: Optimizer, w: Tensor) -> Tensor:
    """The first moment without its bias towards 0."""
    state = optimizer.state[w]
    bias: float = optimizer.param_groups[0]["betas"][0] ** state["step"].item()
    moment: Tensor = state["exp_avg"] / (1 - bias)
    return moment


def _sgd_momentum(params: list[Tensor], lr: float, one_minus_momentum: float) -> Optimizer:
    return torch.optim.SGD(params, lr=lr, momentum=1 - one_minus_momentum)


def _with_betas(
    make: Callable[..., Optimizer],
    params: list[Tensor],
    lr: float,
    one_minus_beta1: float,
    **own: Any,
) -> Optimizer:
    return make(params, lr=lr, betas=(1 - one_minus_beta1, 0.999), **own)


def _rmsprop(params: list[Tensor], lr: float, one_minus_alpha: float) -> Optimizer:
    return torch.optim.RMSprop(params, lr=lr, alpha=1 - one_minus_alpha)


def _schedulefree_sgd(params: list[Tensor], lr: float, one_minus_momentum: float) -> Optimizer:
    optimizer: Optimizer = SGDScheduleFree(params, lr=lr, momentum=1 - one_minus_momentum)
    return optimizer


def _registry() -> dict[str, Entry]:
    to = {"lr": 0.1, "lr_schedule": "constant", "beta": 0.1, "beta_schedule": "constant"}
    adam = {"lr": 0.01, "lr_schedule": "constant", "one_minus_beta1": 0.1}
    sgd = {"lr": 0.1, "lr_schedule": "constant"}

    def learning(highest_alpha: float) -> dict[str, BaseDistribution]:
        """α times ‖w‖², or wᵢ² for Diagonal-TO, must stay below 2, which allows that a larger α.

        α is drawn last: the random trials try the same learning rates and β as those of α = 0.
        """
        return {
            **AVERAGE,
            "alpha": FloatDistribution(1e-5 * highest_alpha, highest_alpha, log=True),
        }

    entries = [
        Entry("full", FullTO, _learned, {**to, "alpha": 0.01}, learning(1.0)),
        Entry("diagonal", DiagonalTO, _learned, {**to, "alpha": 0.01}, learning(10.0)),
        Entry("rankone", RankOneTO, _learned, {**to, "alpha": 0.01}, learning(1.0)),
        # With α = 0 nothing is learned in A, and all three variants are this one.
        Entry("alpha0", partial(DiagonalTO, alpha=0.0), _learned, to, AVERAGE),
        # Diagonal-TO with a part removed: b stays the first gradient; the estimate from before the
        # update.
        Entry(
            "fixed-b",
            partial(DiagonalTO, beta=FirstStep()),
            _learned,
            {"lr": 0.1, "lr_schedule": "constant", "alpha": 0.01},
            {"alpha": learning(10.0)["alpha"]},
        ),
        Entry(
            "lagged",
            LaggedDiagonalTO,
            _learned,
            {**to, "alpha": 0.01},
            learning(10.0),
        ),
        Entry(
            "adam",
            partial(_with_betas, torch.optim.Adam),
            _adam,
            adam,
            {"one_minus_beta1": SHARE},
        ),
        # What ADAM is without the decay that all are offered here.
        Entry(
            "adam-constant",
            partial(_with_betas, torch.optim.Adam),
            _adam,
            adam,
            {"one_minus_beta1": SHARE, "lr_schedule": CategoricalDistribution(["constant"])},
        ),
        Entry(
            "adamw",
            partial(_with_betas, torch.optim.AdamW),
            _adam,
            {**adam, "weight_decay": 1e-4},
            {"one_minus_beta1": SHARE, "weight_decay": FloatDistribution(1e-6, 0.1, log=True)},
        ),
        Entry("sgd", torch.optim.SGD, _gradient, sgd),
        Entry(
            "averaged",
            AveragedSGD,
            _gradient,
            {**sgd, "eta": 3.0},
            {"eta": CategoricalDistribution([0.0, 3.0, 10.0, 30.0])},
        ),
        Entry(
            "momentum",
            _sgd_momentum,
            _momentum,
            {"lr": 0.01, "lr_schedule": "constant", "one_minus_momentum": 0.1},
            {"one_minus_momentum": MOMENTUM},
        ),
        Entry("adagrad", torch.optim.Adagrad, _gradient, sgd),
        Entry(
            "rmsprop",
            _rmsprop,
            _gradient,
            {"lr": 0.01, "lr_schedule": "constant", "one_minus_alpha": 0.01},
            {"one_minus_alpha": SHARE},
        ),
        Entry(
            "schedulefree-sgd",
            _schedulefree_sgd,
            _gradient,
            {"lr": 1.0, "lr_schedule": "constant", "one_minus_momentum": 0.1},
            {"one_minus_momentum": MOMENTUM},
        ),
        Entry(
            "schedulefree-adamw",
            partial(_with_betas, AdamWScheduleFree),
            _gradient,
            {"lr": 0.01, "lr_schedule": "constant", "one_minus_beta1": 0.1},
            {"one_minus_beta1": MOMENTUM},
        ),
    ]
    return {entry.name: entry for entry in entries}


OPTIMIZERS: dict[str, Entry] = _registry()
# name -> the same optimizer with A removed, for those that learn A.
WITHOUT_A: dict[str, Entry] = {
    name: entry.without_A for name, entry in OPTIMIZERS.items() if entry.without_A is not None
}


def chosen(names: str | list[str] | tuple[str, ...]) -> list[Entry]:
    """The named optimizers in the registry's order, and the α = 0 baseline, which is always there.

    Args:
        names: a list, or one string with commas between the names.

    Raises:
        InputError: a name isn't known, or there is none.
    """
    split = names.split(",") if isinstance(names, str) else names
    wanted = [name.strip() for name in split if name.strip()]
    if not wanted:
        raise InputError(f"No optimizer is named: choose some of {', '.join(OPTIMIZERS)}.")
    for name in wanted:
        if name not in OPTIMIZERS:
            hint = did_you_mean(name, OPTIMIZERS)
            raise InputError(
                f"There is no optimizer {name}: {hint}choose some of {', '.join(OPTIMIZERS)}."
            )
    return [entry for entry in OPTIMIZERS.values() if entry.name in (*wanted, BASELINE)]
