"""The registry of optimizers: how each is built, what it takes for the full gradient, its ranges.

One name is one optimizer, in every kind of problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import Tensor
from torch.optim import Optimizer

from trainopt.errors import InputError, did_you_mean
from trainopt.estimated import Estimated
from trainopt.forms import Dense, Diagonal, Form, RankOne
from trainopt.harness.ablations import AveragedSGD, FirstStep, LaggedDiagonalTO
from trainopt.harness.combined import Combined
from trainopt.harness.names import BASELINE, DEFAULT, OPTIMIZER_TITLES, optimizers_of
from trainopt.harness.names import OPTIMIZERS as NAMES
from trainopt.learning import Normalised
from trainopt.optim import TO, DiagonalTO, Estimator, FullTO, RankOneTO
from trainopt.schedules import Constant, Cosine, Exponential, InverseTime, Schedule
from trainopt.secant import ChunkSampler, Plan, SecantTO

Settings = dict[str, Any]
Row = dict[str, Any]
Named: TypeAlias = Sequence[tuple[str, Tensor]]
"""Parameters with their names: Muon takes some of them only."""
Direction: TypeAlias = Callable[[Any, Tensor, Tensor], Tensor]
"""(optimizer, parameter, its mini-batch gradient) to the estimate of its full gradient."""

_END = 0.01  # part of the first rate that is left at the end
# name -> a rate over time, from its first value, the steps of an epoch and of the run. A setting
# `x_schedule` says how the setting `x` changes.
SCHEDULES: dict[str, Callable[[float, int, int], Schedule]] = {
    "constant": lambda rate, epoch, total: Constant(rate),
    "inverse": lambda rate, epoch, total: InverseTime(rate * epoch, epoch),
    "exponential": lambda rate, epoch, total: Exponential(rate, _END ** (1 / total)),
    "cosine": lambda rate, epoch, total: Cosine(rate, total, _END * rate),
}


def _range(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high, log=True)


# What a comparison of a linear problem searches. α times ‖w‖² must stay below 2; of Diagonal-TO, α
# times wᵢ², which allows a larger α; of the normalised rate, α + β. Averages that 1 would switch
# off or break end before it. TO alone has averages that may lengthen with time, as its theory
# wants: β ~ 1/t.
_SPACE: dict[str, BaseDistribution] = {
    "lr": _range(1e-3, 30.0),
    "lr_schedule": CategoricalDistribution(["constant", "inverse", "exponential"]),
    "alpha": _range(1e-5, 1.0),
    "beta": _range(0.01, 1.0),
    "beta_schedule": CategoricalDistribution(["constant", "inverse"]),
    "one_minus_beta1": _range(0.01, 1.0),
    "one_minus_momentum": _range(0.01, 0.999),
    "one_minus_alpha": _range(0.01, 1.0),
    "weight_decay": _range(1e-6, 0.1),
    "eta": CategoricalDistribution([0.0, 3.0, 10.0, 30.0]),
}
_SPACE_OF: dict[str, dict[str, BaseDistribution]] = {
    "diagonal": {"alpha": _range(1e-4, 10.0)},
    "fixed-b": {"alpha": _range(1e-4, 10.0)},
    "lagged": {"alpha": _range(1e-4, 10.0)},
    # What ADAM is without the decay that all are offered.
    "adam-constant": {"lr_schedule": CategoricalDistribution(["constant"])},
    "schedulefree-adamw": {"one_minus_beta1": _range(0.01, 0.999)},
}
_START: Settings = {
    "lr": 0.1, "lr_schedule": "constant", "alpha": 0.01, "beta": 0.1, "beta_schedule": "constant",
    "one_minus_beta1": 0.1, "one_minus_momentum": 0.1, "one_minus_alpha": 0.01,
    "weight_decay": 1e-4, "eta": 3.0,
}  # fmt: skip
_START_OF: dict[str, Settings] = {
    "diagonal-normalised": {"alpha": 1e-4},  # α/wᵢ² is large where a weight is near 0
    "schedulefree-sgd": {"lr": 1.0},
} | {
    name: {"lr": 0.01}
    for name in ("adam", "adam-constant", "adamw", "momentum", "rmsprop", "schedulefree-adamw")
}


@dataclass(frozen=True)
class Entry:
    """One optimizer of the registry.

    Attributes:
        name: what it is called on the command line, in protocols and in results.
        make: make(named parameters, lr, **settings), without those that are schedules.
        direction: its estimate of the full gradient, after a step.
        settings: names of what is tuned; a world may hold some of them fixed.
        plain: of an `Estimated` one, what it is without the learned estimate. It takes the best
            settings of that, and only its own are searched.
        in_chunks: whether the rows come in fixed chunks, by a sampler that `make` gets as `plan`.
    """

    name: str
    make: Callable[..., Optimizer]
    direction: Direction
    settings: tuple[str, ...]
    plain: str | None = None
    in_chunks: bool = False

    @property
    def title(self) -> str:
        """What it is called in tables and pictures."""
        return OPTIMIZER_TITLES[self.name]

    @property
    def start(self) -> Settings:
        """The settings that a comparison of a linear problem tries first."""
        starts = _START | _START_OF.get(self.name, {})
        return {setting: starts[setting] for setting in self.settings}

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """What a comparison of a linear problem searches."""
        ranges = _SPACE | _SPACE_OF.get(self.name, {})
        return {setting: ranges[setting] for setting in self.settings}

    @property
    def without_A(self) -> str | None:
        """Name of the same with α = 0 and settings of its own, of one that learns A."""
        if "alpha" not in self.settings:
            return None
        return BASELINE if self.plain is None else f"{self.plain}-{BASELINE}"

    @property
    def with_alpha_0(self) -> Entry | None:
        """The same with α = 0 and nothing else changed; None where there is no A to remove."""
        if "alpha" not in self.settings:
            return None
        return replace(
            self,
            name=f"{self.name}-{BASELINE}",
            make=partial(self.make, alpha=0.0),
            settings=tuple(name for name in self.settings if name != "alpha"),
        )

    @property
    def is_gradient(self) -> bool:
        """Whether its estimate of the full gradient is the mini-batch gradient itself."""
        return self.direction is _gradient

    def build(
        self, named: Named, settings: Settings, plan: ChunkSampler | Plan | None = None
    ) -> Optimizer:
        """Build the optimizer at its first learning rate.

        Args:
            named: the parameters.
            settings: a value for each of its own.
            plan: how the rows are read, where that is `in_chunks`.

        Raises:
            InputError: its state doesn't fit in memory.
        """
        own = {name: value for name, value in settings.items() if not name.endswith("_schedule")}
        if self.in_chunks:
            own["plan"] = plan
        try:
            optimizer = self.make(named, **own)
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


# What each takes for the full gradient ----------------------------------------------------------


def _gradient(optimizer: Optimizer, param: Tensor, gradient: Tensor) -> Tensor:
    return gradient


def _learned(optimizer: Any, param: Tensor, gradient: Tensor) -> Tensor:
    estimate: Tensor = optimizer.estimate(param)
    return estimate


def secant_estimate(optimizer: SecantTO, param: Tensor, gradient: Tensor) -> Tensor:
    """Ĝ of the last move; in the base phase, which is SGD, the mini-batch's gradient."""
    try:
        return optimizer.estimate(param)
    except KeyError:
        return gradient


def _buffer(optimizer: Optimizer, param: Tensor, gradient: Tensor) -> Tensor:
    """The buffer sums gradients; (1 − μ) times it averages them."""
    momentum: float = optimizer.param_groups[0]["momentum"]
    average: Tensor = optimizer.state[param]["momentum_buffer"] * (1 - momentum)
    return average


def _first_moment(optimizer: Optimizer, param: Tensor, gradient: Tensor) -> Tensor:
    """The first moment without its bias towards 0."""
    state = optimizer.state[param]
    bias: float = optimizer.param_groups[0]["betas"][0] ** state["step"].item()
    moment: Tensor = state["exp_avg"] / (1 - bias)
    return moment


# How each is made ---------------------------------------------------------------------------------


def _plain(make: Callable[..., Optimizer], named: Named, lr: float, **own: Any) -> Optimizer:
    return make([p for _, p in named], lr=lr, **own)


def _normalised(form: Form, named: Named, lr: float, alpha: float, beta: float) -> Optimizer:
    return TO(Estimator([p for _, p in named], form, Normalised(alpha, beta)), lr=lr)


def _secant(named: Named, plan: ChunkSampler | Plan) -> Optimizer:
    return SecantTO([p for _, p in named], plan)


def _with_betas(
    make: Callable[..., Optimizer],
    beta2: float,
    named: Named,
    lr: float,
    one_minus_beta1: float,
    **own: Any,
) -> Optimizer:
    return make([p for _, p in named], lr=lr, betas=(1 - one_minus_beta1, beta2), **own)


def _with_momentum(
    make: Callable[..., Optimizer], named: Named, lr: float, one_minus_momentum: float
) -> Optimizer:
    return make([p for _, p in named], lr=lr, momentum=1 - one_minus_momentum)


def _rmsprop(named: Named, lr: float, one_minus_alpha: float) -> Optimizer:
    return torch.optim.RMSprop([p for _, p in named], lr=lr, alpha=1 - one_minus_alpha)


def _lion(params: list[Tensor], **own: Any) -> Optimizer:
    from lion_pytorch import Lion

    optimizer: Optimizer = Lion(params, **own)
    return optimizer


# No weight decay but where it is searched: all minimise one function.
_adamw = partial(torch.optim.AdamW, weight_decay=0.0, fused=True)


def _muon(named: Named, lr: float, one_minus_momentum: float) -> Optimizer:
    """Muon for the hidden matrices, at ADAM's scale of the learning rate; AdamW for the rest."""
    matrices = [p for name, p in named if is_hidden_matrix(name, p)]
    rest = [p for name, p in named if not is_hidden_matrix(name, p)]
    muon = torch.optim.Muon(
        matrices,
        lr=lr,
        momentum=1 - one_minus_momentum,
        weight_decay=0.0,
        adjust_lr_fn="match_rms_adamw",
    )
    if not rest:
        return muon
    return Combined(muon, _adamw(rest, lr=lr))


def is_hidden_matrix(name: str, param: Tensor) -> bool:
    """Whether Muon takes it: a matrix that is neither an embedding nor the output layer."""
    return param.ndim == 2 and "embed" not in name and not name.startswith("head.")


def _on_estimate(
    make: Callable[..., Optimizer],
    estimate: Callable[..., Any],
    named: Named,
    beta: float,
    alpha: float = 0.0,
    **own: Any,
) -> Optimizer:
    """An optimizer that gets a learned estimate in place of g."""
    estimator = estimate([p for _, p in named], lr=0.0, alpha=alpha, beta=beta)
    return Estimated(make(named, **own), estimator)


# name -> how it is made, what it takes for the full gradient
_MADE: dict[str, tuple[Callable[..., Optimizer], Direction]] = {
    "secant": (_secant, secant_estimate),
    "full": (partial(_plain, FullTO), _learned),
    "diagonal": (partial(_plain, DiagonalTO), _learned),
    "rankone": (partial(_plain, RankOneTO), _learned),
    "full-normalised": (partial(_normalised, Dense()), _learned),
    "diagonal-normalised": (partial(_normalised, Diagonal()), _learned),
    "rankone-normalised": (partial(_normalised, RankOne()), _learned),
    # With α = 0 nothing is learned in A, and all three variants are this one.
    BASELINE: (partial(_plain, partial(DiagonalTO, alpha=0.0)), _learned),
    # Diagonal-TO with a part removed: b stays the first gradient; the estimate from before the
    # update.
    "fixed-b": (partial(_plain, partial(DiagonalTO, beta=FirstStep())), _learned),
    "lagged": (partial(_plain, LaggedDiagonalTO), _learned),
    "adam": (partial(_with_betas, torch.optim.Adam, 0.999), _first_moment),
    "adam-constant": (partial(_with_betas, torch.optim.Adam, 0.999), _first_moment),
    "adamw": (partial(_with_betas, _adamw, 0.999), _first_moment),
    "sgd": (partial(_plain, torch.optim.SGD), _gradient),
    "averaged": (partial(_plain, AveragedSGD), _gradient),
    "momentum": (partial(_with_momentum, torch.optim.SGD), _buffer),
    "adagrad": (partial(_plain, torch.optim.Adagrad), _gradient),
    "rmsprop": (_rmsprop, _gradient),
    "schedulefree-sgd": (partial(_with_momentum, SGDScheduleFree), _gradient),
    "schedulefree-adamw": (partial(_with_betas, AdamWScheduleFree, 0.999), _gradient),
    "muon": (_muon, _gradient),
    "adafactor": (partial(_plain, torch.optim.Adafactor), _gradient),
    "lion": (partial(_with_betas, _lion, 0.99), _gradient),
}
_ESTIMATES = {"diagonal": DiagonalTO, "rankone": RankOneTO, BASELINE: DiagonalTO}


def _entry(name: str) -> Entry:
    settings = NAMES[name].settings
    if name in _MADE:
        return Entry(name, *_MADE[name], settings, in_chunks=name == "secant")
    plain, _, learned = name.partition("-")
    make = partial(_on_estimate, _MADE[plain][0], _ESTIMATES[learned])
    return Entry(name, make, _learned, settings, plain)


OPTIMIZERS: dict[str, Entry] = {name: _entry(name) for name in NAMES}
# name -> the same optimizer with A removed, for those of linear problems that learn A.
WITHOUT_A: dict[str, Entry] = {
    name: entry
    for name in optimizers_of("convex")
    if (entry := OPTIMIZERS[name].with_alpha_0) is not None
}


def optimizer_named(name: str, world: str) -> Entry:
    """Look an optimizer up.

    Raises:
        InputError: there is none of that name for problems of this world.
    """
    known = optimizers_of(world)
    if name in known:
        return OPTIMIZERS[name]
    if name in OPTIMIZERS:
        kind = {"linear": "linear problems", "deep": "deep networks"}[NAMES[name].worlds[0]]
        said = f"The optimizer {name} is for {kind}: "
    else:
        said = f"There is no optimizer {name}: {did_you_mean(name, known)}"
    raise InputError(f"{said}choose some of {', '.join(known)}.")


def names_in(names: str | Iterable[str], kind: str = "optimizer") -> list[str]:
    """Names of optimizers, or of another kind, out of a list, or a string with commas between them.

    Raises:
        InputError: there is none.
    """
    split = names.split(",") if isinstance(names, str) else names
    found = [name.strip() for name in split if name.strip()]
    if not found:
        raise InputError(f"No {kind} is named: give names from `trainopt list`.")
    return found


def chosen(names: str | Iterable[str]) -> list[Entry]:
    """The named optimizers of linear problems in the registry's order, and the α = 0 baseline.

    Raises:
        InputError: a name isn't known, or there is none.
    """
    entries = {optimizer_named(name, "linear").name for name in (*names_in(names), BASELINE)}
    return [entry for entry in OPTIMIZERS.values() if entry.name in entries]
