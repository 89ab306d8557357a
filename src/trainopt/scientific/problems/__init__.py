"""The problems, by name."""

from __future__ import annotations

from collections.abc import Callable

from trainopt.bench.errors import InputError, did_you_mean
from trainopt.scientific.problem import Problem
from trainopt.scientific.problems.allen_cahn import allen_cahn
from trainopt.scientific.problems.burgers import burgers
from trainopt.scientific.problems.convection import convection
from trainopt.scientific.problems.diamonds import diamonds
from trainopt.scientific.problems.elliptic import helmholtz, poisson
from trainopt.scientific.problems.pendulum import pendulum

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "poisson": poisson,
    "burgers": burgers,
    "helmholtz": helmholtz,
    "convection": convection,
    "allen-cahn": allen_cahn,
    "pendulum": pendulum,
    "diamonds": diamonds,
}


def problem_named(name: str) -> Problem:
    """Make a problem.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PROBLEMS:
        hint = did_you_mean(name, PROBLEMS)
        raise InputError(
            f"There is no scientific problem {name}: {hint}choose some of {', '.join(PROBLEMS)}."
        )
    return PROBLEMS[name]()
