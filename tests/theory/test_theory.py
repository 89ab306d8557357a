"""The theory study, small: the slopes, the conditions and where boundedness ends."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from trainopt.theory import rates
from trainopt.theory.rates import (
    Quadratic,
    alpha_sweep,
    conditions,
    curves,
    slope,
    theorem_schedules,
)
from trainopt.theory.run import run_theory


def test_the_slope_of_a_known_rate():
    t = np.unique(np.geomspace(1, 10_000, 60).astype(int))
    generator = np.random.default_rng(0)
    rows = [
        {"t": step, "seed": seed, "distance": 3 / step * generator.lognormal(-0.005, 0.1)}
        for seed in range(20)
        for step in t
    ]
    found, low, high = slope(pd.DataFrame(rows), "distance", 200)
    assert found == pytest.approx(-1, abs=0.03)
    assert low < found < high
    assert high - low < 0.1


def test_the_schedules_meet_the_conditions():
    function = Quadratic()
    schedules = theorem_schedules(function, 500)
    assert schedules.lr(0) == pytest.approx(1 / function.smoothness)
    table = curves(function, "diagonal", 500, 3)
    found = conditions(function, table, 500)
    assert found["iterates_met"]
    assert found["variables_met"]
    assert found["variables_margin"] > 0


def test_the_estimators_error_vanishes_with_to_and_stays_with_sgd():
    errors = {}
    for optimizer in ("full", "sgd"):
        table = curves(Quadratic(), optimizer, 3000, 4)
        errors[optimizer] = table[table.t == 3000].estimator_error.mean()
    assert errors["sgd"] == pytest.approx(10, rel=0.6)  # the noise: d = 10 of variance 1
    assert errors["full"] < 0.1


@pytest.mark.parametrize("optimizer", ["full", "diagonal"])
def test_the_factor_predicts_where_boundedness_ends(optimizer):
    sweep = alpha_sweep(optimizer, lr=0.0, steps=4000, seeds=2)
    clear = sweep[(sweep.factor - 1).abs() > 0.04]
    assert (clear.bounded == (clear.factor < 1)).all()
    assert clear.bounded.any()
    assert not clear.bounded.all()


def test_the_study_writes_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "slope", partial(slope, resamples=50))
    said = []
    slopes = run_theory(60, 2, tmp_path, said.append)
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {
        "curves.parquet", "slopes.csv", "sweep.csv", "run.json", "rates.png", "report.html",
        "sweep.png",
    }  # fmt: skip
    assert len(slopes) == 2 * 6 * 2
    assert len(said) == 2 * 6 + 1
    table = pd.read_parquet(tmp_path / "curves.parquet")
    table = table[(table.function != "logistic") | (table.optimizer != "adam")]
    table.to_parquet(tmp_path / "curves.parquet")
    said.clear()
    again = run_theory(60, 2, tmp_path, said.append)
    assert said == ["logistic: adam", "sweep of alpha"]
    pd.testing.assert_frame_equal(again, slopes)
