"""What optimizers and solvers are called and how they are drawn, in tables and pictures alike."""

from __future__ import annotations

from trainopt.harness.curves import STYLES as _STYLES
from trainopt.harness.curves import Style
from trainopt.harness.optimizers import OPTIMIZERS

TITLES = {name: entry.title for name, entry in OPTIMIZERS.items()} | {
    "svrg": "SVRG",
    "sag": "SAG",
    "saga": "SAGA",
    "lbfgs": "L-BFGS",
    "secant": "SecantTO",
    "secant-tuned": "SecantTO, tuned",
}
STYLES = _STYLES | {
    "svrg": Style("#117733", 1.4, dashed=False),
    "sag": Style("#DDCC77", 1.4, dashed=False),
    "saga": Style("#DDCC77", 1.4, dashed=True),
    "lbfgs": Style("#332288", 1.8, dashed=False),
    "secant": Style("#CC3311", 2.8, dashed=False),
    "secant-tuned": Style("#CC3311", 1.8, dashed=True),
}
TO = ("full", "diagonal", "rankone")
OURS = ("secant", *TO)
ABLATIONS = ("alpha0", "sgd", "fixed-b", "lagged")
