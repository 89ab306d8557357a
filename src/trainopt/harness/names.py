"""What can be named: problems, models and optimizers, in plain tables that need no torch."""

from __future__ import annotations

from typing import NamedTuple

from trainopt.harness.palette import TITLES

# The Trainable Optimizer that learns no A, which every comparison has.
BASELINE = "alpha0"
# The variants with the rule `Normalised` -> the same at the paper's rate.
NORMALISED = {f"{name}-normalised": name for name in ("diagonal", "rankone", "full")}
MOST_SEEDS = 10_000
DEFAULT = ("secant", "full", "diagonal", "rankone", "adam", "sgd")

# name -> data set, model, batch size
PROBLEMS: dict[str, tuple[str, str, int]] = {
    "digits-softmax": ("digits", "softmax", 32),
    "digits-svm": ("digits", "svm", 32),
    "wine-softmax": ("wine", "softmax", 32),
    "breast-cancer-logistic": ("breast-cancer", "logistic", 32),
    "breast-cancer-svm": ("breast-cancer", "svm", 32),
    "diabetes-ridge": ("diabetes", "ridge", 32),
    "mnist-softmax": ("mnist", "softmax", 128),
    "mnist-svm": ("mnist", "svm", 128),
}

MODEL_TITLES = {
    "logistic": "logistic regression",
    "softmax": "multinomial logistic regression",
    "ridge": "ridge regression",
    "svm": "support vector machine, squared hinge",
    "huber": "Huber regression",
}

_RATE = ("lr", "lr_schedule")
_AVERAGE = (*_RATE, "beta", "beta_schedule")
_LEARNING = ("beta", "alpha")


class Named(NamedTuple):
    """What is known of an optimizer without building it.

    Attributes:
        settings: what is tuned. A world may hold some of them fixed. α is drawn last, so that
            random trials try the same learning rates and β as those of α = 0.
        worlds: kinds of problems it can train; "linear" are those of `compare`, one by one.
    """

    settings: tuple[str, ...]
    worlds: tuple[str, ...] = ("linear", "convex")


_BOTH = ("linear", "convex", "deep")
_DEEP = ("deep",)

OPTIMIZERS: dict[str, Named] = {
    "secant": Named((), ("linear",)),  # nothing is tuned
    "full": Named((*_AVERAGE, "alpha")),
    "diagonal": Named((*_AVERAGE, "alpha"), _BOTH),
    "rankone": Named((*_AVERAGE, "alpha"), _BOTH),
    "full-normalised": Named((*_AVERAGE, "alpha")),
    "diagonal-normalised": Named((*_AVERAGE, "alpha"), _BOTH),
    "rankone-normalised": Named((*_AVERAGE, "alpha"), _BOTH),
    BASELINE: Named(_AVERAGE, _BOTH),
    "fixed-b": Named((*_RATE, "alpha")),
    "lagged": Named((*_AVERAGE, "alpha")),
    "adam": Named((*_RATE, "one_minus_beta1")),
    "adam-constant": Named((*_RATE, "one_minus_beta1")),
    "adamw": Named((*_RATE, "one_minus_beta1", "weight_decay"), _BOTH),
    "sgd": Named(_RATE),
    "averaged": Named((*_RATE, "eta")),
    "momentum": Named((*_RATE, "one_minus_momentum"), _BOTH),
    "adagrad": Named(_RATE),
    "rmsprop": Named((*_RATE, "one_minus_alpha")),
    "schedulefree-sgd": Named((*_RATE, "one_minus_momentum")),
    "schedulefree-adamw": Named((*_RATE, "one_minus_beta1"), _BOTH),
    "muon": Named((*_RATE, "one_minus_momentum"), _DEEP),
    "adafactor": Named(_RATE, _DEEP),
    "lion": Named((*_RATE, "one_minus_beta1"), _DEEP),
    "adamw-diagonal": Named(_LEARNING, _DEEP),
    "adamw-rankone": Named(_LEARNING, _DEEP),
    "adamw-alpha0": Named(("beta",), _DEEP),
    "lion-diagonal": Named(_LEARNING, _DEEP),
    "lion-alpha0": Named(("beta",), _DEEP),
    "muon-diagonal": Named(_LEARNING, _DEEP),
    "muon-alpha0": Named(("beta",), _DEEP),
}
OPTIMIZER_TITLES = TITLES | {
    f"{name}-{BASELINE}": f"{TITLES[name]}, α = 0"
    for name, known in OPTIMIZERS.items()
    if "alpha" in known.settings and "convex" in known.worlds
}


def optimizers_of(world: str) -> list[str]:
    """The names of the optimizers that train this kind of problem, in the registry's order."""
    return [name for name, known in OPTIMIZERS.items() if world in known.worlds]
