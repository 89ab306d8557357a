"""One run: what its columns hold, for every optimizer of the registry."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from trainopt.convex.optimum import optimum
from trainopt.convex.problems import build
from trainopt.convex.train import train
from trainopt.errors import InputError
from trainopt.harness.names import optimizers_of
from trainopt.harness.optimizers import OPTIMIZERS, SCHEDULES, chosen


@pytest.fixture(scope="module")
def problem():
    return build("wine-softmax")


@pytest.fixture(scope="module")
def best(problem):
    return optimum(problem).value


def run(problem, best, name, seed=0, epochs=3, **settings):
    entry = OPTIMIZERS[name]
    return train(problem, entry, {**entry.start, **settings}, seed, epochs, best)


# What each keeps per weight, in float32 numbers, and bytes beside them.
STATE = {
    "full": (42 + 1, 0),
    "diagonal": (2, 0),
    "rankone": (3, 0),
    "full-normalised": (42 + 1, 0),
    "diagonal-normalised": (2, 0),
    "rankone-normalised": (3, 0),
    "alpha0": (2, 0),
    "adam": (2, 4),
    "adamw": (2, 4),
    "sgd": (0, 0),
    "momentum": (1, 0),
    "adagrad": (1, 4),
    "rmsprop": (1, 4),
    "fixed-b": (2, 0),
    "lagged": (2, 0),
    "adam-constant": (2, 4),
    "averaged": (1, 0),
    "schedulefree-sgd": (1, 0),
    "schedulefree-adamw": (2, 0),
}


@pytest.mark.parametrize("name", optimizers_of("convex"))
def test_every_optimizer_trains_and_is_measured(problem, best, name):
    entry = OPTIMIZERS[name]
    rows = train(problem, entry, entry.start, 0, 5, best)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[-1]["step"] == 25  # 143 rows in batches of 32
    assert rows[-1]["suboptimality"] == pytest.approx(rows[-1]["train_loss"] - best)
    assert 0 < rows[-1]["suboptimality"] < rows[0]["suboptimality"]
    assert rows[-1]["val_accuracy"] > 0.8
    assert math.isnan(rows[0]["estimator_error"])
    assert rows[-1]["estimator_error"] > 0
    per_weight, beside = STATE[name]
    assert rows[-1]["state_bytes"] == 4 * per_weight * problem.dim + beside
    assert json.loads(rows[0]["settings"]) == entry.start
    assert all(later["seconds"] >= row["seconds"] for row, later in itertools.pairwise(rows))


def test_a_run_is_its_seed(problem, best):
    one, again, other = (run(problem, best, "sgd", seed) for seed in (0, 0, 1))
    losses = [[row["train_loss"] for row in rows] for rows in (one, again, other)]
    assert losses[0] == losses[1] != losses[2]


def test_the_path_is_that_of_a_plain_loop(problem, best):
    rows = run(problem, best, "momentum", lr=0.05, lr_schedule="inverse", one_minus_momentum=0.2)
    w = np.zeros(problem.shape)
    x, y = problem.dataset.x_train, np.eye(3)[problem.dataset.y_train]
    buffer, t = np.zeros_like(w), 0
    generator = torch.Generator().manual_seed(0)

    def gradient(rows=slice(None)):
        scores = np.exp(x[rows] @ w)
        error = scores / scores.sum(axis=1, keepdims=True) - y[rows]
        return x[rows].T @ error / len(error) + problem.l2 * w

    for _ in range(3):
        for batch in problem.batches(generator):
            full = gradient()
            buffer = 0.8 * buffer + gradient(batch.numpy())
            w = w - 0.05 * 5 / (t + 5) * buffer
            t += 1
    assert rows[-1]["train_loss"] == pytest.approx(problem.objective(torch.from_numpy(w)), rel=1e-5)
    assert rows[-1]["estimator_error"] == pytest.approx(
        ((0.2 * buffer - full) ** 2).sum(), rel=1e-3
    )


def test_without_averaging_every_estimate_is_the_gradient(problem, best):
    errors = [
        run(problem, best, name, epochs=1, lr=1e-30, **{share: 1.0})[-1]["estimator_error"]
        for name, share in [("adam", "one_minus_beta1"), ("alpha0", "beta")]
    ]
    sgd = run(problem, best, "sgd", epochs=1, lr=1e-30)[-1]["estimator_error"]
    assert errors == pytest.approx([sgd, sgd], rel=1e-4)


def test_divergence_is_infinite_to_the_end(problem, best):
    rows = run(problem, best, "full", lr=10.0, alpha=1.0, epochs=6)
    assert len(rows) == 7
    assert rows[-1]["train_loss"] == rows[-1]["suboptimality"] == math.inf
    assert rows[-1]["step"] == 30


def test_schedules_decay_as_they_say():
    for name, last in {"constant": 0.5, "inverse": 0.5 / 11, "exponential": 0.005}.items():
        schedule = SCHEDULES[name](0.5, 10, 100)
        assert schedule(0) == pytest.approx(0.5)
        assert schedule(100) == pytest.approx(last)


def test_chosen():
    names = [entry.name for entry in chosen("sgd, full")]
    assert names == ["full", "alpha0", "sgd"]
    with pytest.raises(InputError, match="did you mean adam"):
        chosen("adamm")
    with pytest.raises(InputError, match="No optimizer"):
        chosen(" ,")


def test_starts_lie_in_the_search_space():
    for entry in OPTIMIZERS.values():
        assert set(entry.start) == set(entry.space)
        for name, distribution in entry.space.items():
            assert distribution._contains(distribution.to_internal_repr(entry.start[name]))
