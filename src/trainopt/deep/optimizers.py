"""The optimizers of the deep study, and what each takes for the full gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.optim import Optimizer

from trainopt import DiagonalTO, Estimated, RankOneTO
from trainopt.deep import names
from trainopt.deep.combined import Joint
from trainopt.errors import InputError, did_you_mean
from trainopt.harness.optimizers import Settings

Named: TypeAlias = list[tuple[str, nn.Parameter]]
Direction: TypeAlias = Callable[[Any, nn.Parameter, Tensor], Tensor]
"""(optimizer, parameter, its mini-batch gradient) to the estimate of its full gradient."""


@dataclass(frozen=True)
class Entry:
    """One optimizer.

    Attributes:
        name: in the protocol, on the command line and in results.
        make: make(named parameters, lr, **settings).
        direction: its estimate of the full gradient, after a step.
        plain: of an `Estimated` one, what it is without the learned estimate. It takes the best
            settings of that, and only its own are searched.
    """

    name: str
    make: Callable[..., Optimizer]
    direction: Direction
    plain: str | None = None

    @property
    def title(self) -> str:
        """What it is called in tables and pictures."""
        return names.OPTIMIZERS[self.name][0]

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of what is searched."""
        return names.OPTIMIZERS[self.name][1]

    @property
    def without_A(self) -> str | None:
        """Name of the same with α = 0, of one that learns A."""
        if "alpha" not in self.settings:
            return None
        return "alpha0" if self.plain is None else f"{self.plain}-alpha0"

    @property
    def is_gradient(self) -> bool:
        """Whether its estimate of the full gradient is the mini-batch gradient itself."""
        return self.direction is _gradient

    def build(self, named: Named, settings: Settings) -> Optimizer:
        """Build the optimizer at its first learning rate."""
        own = {name: value for name, value in settings.items() if name != "lr_schedule"}
        optimizer = self.make(named, **own)
        if hasattr(optimizer, "train"):  # schedule-free ones start in the other mode
            optimizer.train()
        return optimizer


# What each takes for the full gradient ----------------------------------------------------------


def _gradient(optimizer: Optimizer, param: nn.Parameter, gradient: Tensor) -> Tensor:
    return gradient


def _learned(optimizer: Any, param: nn.Parameter, gradient: Tensor) -> Tensor:
    estimate: Tensor = optimizer.estimate(param)
    return estimate


def _momentum(optimizer: Optimizer, param: nn.Parameter, gradient: Tensor) -> Tensor:
    """The buffer sums gradients; (1 − μ) times it averages them."""
    average: Tensor = optimizer.state[param]["momentum_buffer"] * (
        1 - optimizer.param_groups[0]["momentum"]
    )
    return average


def _first_moment(optimizer: Optimizer, param: nn.Parameter, gradient: Tensor) -> Tensor:
    """The first moment without its bias towards 0."""
    state = optimizer.state[param]
    bias: float = optimizer.param_groups[0]["betas"][0] ** state["step"].item()
    moment: Tensor = state["exp_avg"] / (1 - bias)
    return moment


# How each is made; no weight decay anywhere, so that all minimise one function --------------------


def _plain(make: Callable[..., Optimizer], named: Named, lr: float, **own: Any) -> Optimizer:
    return make([p for _, p in named], lr=lr, **own)


def _sgd(named: Named, lr: float, one_minus_momentum: float) -> Optimizer:
    return torch.optim.SGD([p for _, p in named], lr=lr, momentum=1 - one_minus_momentum)


def _adamw(named: Named, lr: float, one_minus_beta1: float) -> Optimizer:
    return torch.optim.AdamW(
        [p for _, p in named],
        lr=lr,
        betas=(1 - one_minus_beta1, 0.999),
        weight_decay=0.0,
        fused=True,
    )


def _schedulefree(named: Named, lr: float, one_minus_beta1: float) -> Optimizer:
    optimizer: Optimizer = AdamWScheduleFree(
        [p for _, p in named], lr=lr, betas=(1 - one_minus_beta1, 0.999)
    )
    return optimizer


def _lion(named: Named, lr: float, one_minus_beta1: float) -> Optimizer:
    from lion_pytorch import Lion

    optimizer: Optimizer = Lion([p for _, p in named], lr=lr, betas=(1 - one_minus_beta1, 0.99))
    return optimizer


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
    return Joint(muon, torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, fused=True))


def is_hidden_matrix(name: str, param: Tensor) -> bool:
    """Whether Muon takes it: a matrix that is neither an embedding nor the output layer."""
    return param.ndim == 2 and "embed" not in name and not name.startswith("head.")


def _on_estimate(
    make: Callable[..., Optimizer],
    estimate: Callable[..., DiagonalTO | RankOneTO],
    named: Named,
    beta: float,
    alpha: float = 0.0,
    **own: Any,
) -> Optimizer:
    """An optimizer that gets a learned estimate in place of g."""
    estimator = estimate([p for _, p in named], lr=0.0, alpha=alpha, beta=beta)
    return Estimated(make(named, **own), estimator)


def _registry() -> dict[str, Entry]:
    plain = [
        Entry("diagonal", partial(_plain, DiagonalTO), _learned),
        Entry("rankone", partial(_plain, RankOneTO), _learned),
        Entry("alpha0", partial(_plain, partial(DiagonalTO, alpha=0.0)), _learned),
        Entry("adamw", _adamw, _first_moment),
        Entry("sgd", _sgd, _momentum),
        Entry("schedulefree", _schedulefree, _gradient),
        Entry("muon", _muon, _gradient),
        Entry("adafactor", partial(_plain, torch.optim.Adafactor), _gradient),
        Entry("lion", _lion, _gradient),
    ]
    estimates = {"diagonal": DiagonalTO, "rankone": RankOneTO, "alpha0": DiagonalTO}
    on_estimate = [
        Entry(name, partial(_on_estimate, inner.make, estimate), _learned, plain=inner.name)
        for inner in plain
        for learned, estimate in estimates.items()
        if (name := f"{inner.name}-{learned}") in names.OPTIMIZERS
    ]
    entries = {entry.name: entry for entry in (*plain, *on_estimate)}
    return {name: entries[name] for name in names.OPTIMIZERS}


OPTIMIZERS: dict[str, Entry] = _registry()


def optimizer_named(name: str) -> Entry:
    """Look an optimizer up.

    Raises:
        InputError: there is none of that name.
    """
    if name not in OPTIMIZERS:
        hint = did_you_mean(name, OPTIMIZERS)
        raise InputError(
            f"There is no deep optimizer {name}: {hint}choose some of {', '.join(OPTIMIZERS)}."
        )
    return OPTIMIZERS[name]
