"""Runs side by side give the numbers of the optimizers a user builds, run by run."""

import itertools

import numpy as np
import pytest

from trainopt.convex.batched import Batched, train_all
from trainopt.convex.problems import build
from trainopt.convex.train import train
from trainopt.harness.names import optimizers_of
from trainopt.harness.optimizers import OPTIMIZERS

EPOCHS = 3


def settings_of(entry):
    """The entry's own start, and two that differ from it in every number and in the schedules."""
    start = entry.start
    numbers = {k: v for k, v in start.items() if not k.endswith("_schedule")}
    return [
        start,
        start | {k: 0.5 * v for k, v in numbers.items()} | {"lr_schedule": "inverse"},
        start
        | {k: 0.7 * v for k, v in numbers.items()}
        | {"lr_schedule": "exponential"}
        | ({"beta_schedule": "inverse"} if "beta_schedule" in start else {}),
    ]


PAIRS = {*itertools.product(optimizers_of("convex"), ["wine-softmax", "diabetes-ridge"])}
# Softmax leaves cᵀw at rounding's error, whose square this rate divides by.
PAIRS -= {("rankone-normalised", "wine-softmax")}


@pytest.mark.parametrize(("name", "problem"), sorted(PAIRS))
def test_the_same_numbers_as_one_by_one(name, problem):
    built, entry = build(problem), OPTIMIZERS[name]
    settings = settings_of(entry)
    runs = train_all(Batched(built), name, settings, [3, 4], EPOCHS, 0.0)
    for i, each in enumerate(settings):
        for j, seed in enumerate([3, 4]):
            rows = train(built, entry, each, seed, EPOCHS, 0.0)
            expected = [row["train_loss"] for row in rows]
            np.testing.assert_allclose(runs.suboptimality[i, j], expected, rtol=2e-4)
            errors = [row["estimator_error"] for row in rows]
            np.testing.assert_allclose(runs.estimator_error[i, j], errors, rtol=1e-2)
