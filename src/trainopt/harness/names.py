"""What can be named: problems, models and optimizers, in plain tables that need no torch."""

from __future__ import annotations

# The Trainable Optimizer that learns no A, which every comparison has.
BASELINE = "alpha0"
MOST_SEEDS = 10_000
DEFAULT = ("full", "diagonal", "rankone", "adam", "sgd")

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

# name -> title in tables and pictures, settings that are tuned
OPTIMIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "full": ("Full-TO", (*_AVERAGE, "alpha")),
    "diagonal": ("Diagonal-TO", (*_AVERAGE, "alpha")),
    "rankone": ("RankOne-TO", (*_AVERAGE, "alpha")),
    BASELINE: ("TO, α = 0", _AVERAGE),
    "fixed-b": ("Diagonal-TO, b fixed", (*_RATE, "alpha")),
    "lagged": ("Diagonal-TO, Ĝ before update", (*_AVERAGE, "alpha")),
    "adam": ("ADAM", (*_RATE, "one_minus_beta1")),
    "adam-constant": ("ADAM, constant rate", (*_RATE, "one_minus_beta1")),
    "adamw": ("AdamW", (*_RATE, "one_minus_beta1", "weight_decay")),
    "sgd": ("SGD", _RATE),
    "averaged": ("SGD, averaged", (*_RATE, "eta")),
    "momentum": ("SGD, momentum", (*_RATE, "one_minus_momentum")),
    "adagrad": ("Adagrad", _RATE),
    "rmsprop": ("RMSprop", (*_RATE, "one_minus_alpha")),
    "schedulefree-sgd": ("Schedule-free SGD", (*_RATE, "one_minus_momentum")),
    "schedulefree-adamw": ("Schedule-free AdamW", (*_RATE, "one_minus_beta1")),
}
OPTIMIZER_TITLES = {name: title for name, (title, _) in OPTIMIZERS.items()} | {
    f"{name}-{BASELINE}": f"{title}, α = 0"
    for name, (title, settings) in OPTIMIZERS.items()
    if "alpha" in settings
}
