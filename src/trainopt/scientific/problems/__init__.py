"""The problems, by name."""

from __future__ import annotations

from collections.abc import Callable

from trainopt.errors import InputError, did_you_mean
from trainopt.scientific.problem import Problem
from trainopt.scientific.problems import (
    allen_cahn,
    burgers,
    convection,
    diamonds,
    elliptic,
    pendulum,
)

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "poisson": elliptic.poisson,
    "burgers": burgers.burgers,
    "helmholtz": elliptic.helmholtz,
    "convection": convection.convection,
    "allen-cahn": allen_cahn.allen_cahn,
    "pendulum": pendulum.pendulum,
    "diamonds": diamonds.diamonds,
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
