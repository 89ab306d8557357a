"""The studies of settings and starts on deep tasks: a tiny grid, and numbers worked out by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_task import tiny

from trainopt import DiagonalTO, RankOneTO
from trainopt.deep import initial, sensitivity
from trainopt.deep.initial import best_settings, run_deep_initial, starting, starts
from trainopt.deep.runner import Plan, train
from trainopt.deep.sensitivity import run_deep_sensitivity
from trainopt.deep.sensitivity_tables import (
    PERCENT,
    by_optimizer,
    together,
    together_cells,
    together_words,
    write_deep_sensitivity,
)
from trainopt.errors import InputError
from trainopt.harness.grid import defaults, learning
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.reports import report

PLAN = Plan(12, 8, (1, 10, 12))


@pytest.fixture
def small(monkeypatch):
    """The studies on a tiny task, with few settings."""
    few = {"ALPHA": (0.01, 0.0), "BETA": (0.3, 1.0), "LR": (0.1, 0.3)}
    for name, values in (few | {"GRID_TASKS": ("cnn",)}).items():
        monkeypatch.setattr(sensitivity, name, values)
    monkeypatch.setattr(initial, "SEEDS", range(3))
    monkeypatch.setattr(initial, "START_TASKS", ("cnn",))
    for module in (sensitivity, initial):
        monkeypatch.setattr(module, "opened", lambda task: (tiny(), PLAN))


def forbidden(*_):
    raise AssertionError("this run is there already")


def test_the_grid_is_what_the_runner_says_and_goes_on_where_it_stopped(
    small, monkeypatch, tmp_path
):
    grid = run_deep_sensitivity(tmp_path, show=False)
    # Both variants with A, and one without, at each β and γ, on two seeds.
    assert len(grid) == (2 * 2 + 2) * 2 * 2
    sgd = OPTIMIZERS["sgd"]  # what α = 0 and β = 1 is
    for lr, seed in itertools.product((0.1, 0.3), (0, 1)):
        settings = {"lr": lr, "lr_schedule": "cosine"}
        first, *_, last = train(tiny(), tiny().validation, sgd, settings, seed, PLAN)
        asked_for = "alpha == 0 and beta == 1 and lr == @lr and seed == @seed"
        (row,) = grid.query(asked_for).to_dict("records")
        assert row["val_loss"] == pytest.approx(last["val_loss"])
        assert row["train_loss"] == pytest.approx(last["train_loss"])
        assert row["start"] == first["val_loss"]
    grid[grid.beta == 1].to_parquet(tmp_path / "grid.parquet")
    asked = []
    monkeypatch.setattr(sensitivity, "train", lambda *given: asked.append(given) or train(*given))
    again = run_deep_sensitivity(tmp_path, show=False)
    assert len(asked) == 12
    order = ["optimizer", "alpha", "beta", "lr", "seed"]
    pd.testing.assert_frame_equal(
        *(table.sort_values(order, ignore_index=True) for table in (grid, again))
    )
    monkeypatch.setattr(sensitivity, "train", forbidden)
    run_deep_sensitivity(tmp_path, show=False)
    monkeypatch.setattr(sensitivity, "LR", (0.1,))
    with pytest.raises(InputError, match="lr"):
        run_deep_sensitivity(tmp_path, show=False)


def ends(values):
    """A grid at one γ, from {(task, optimizer, α, β): validation loss}."""
    rows = [
        {"problem": task, "optimizer": optimizer, "lr": 0.1, "lr_schedule": "cosine"}
        | {"alpha": alpha, "beta": beta, "seed": 0, "val_loss": loss}
        for (task, optimizer, alpha, beta), loss in values.items()
    ]
    return pd.DataFrame(rows)


HAND = {
    ("x", "alpha0", 0.0, 1.0): 2.0, ("x", "diagonal", 0.01, 1.0): 2.5,
    ("x", "diagonal", 0.01, 0.1): 5.0, ("x", "rankone", 0.01, 1.0): 1.6,
    ("x", "rankone", 0.01, 0.1): 2.4,
    ("y", "alpha0", 0.0, 1.0): 1.1, ("y", "diagonal", 0.01, 1.0): 1.0,
    ("y", "diagonal", 0.01, 0.1): math.inf, ("y", "rankone", 0.01, 1.0): 2.2,
    ("y", "rankone", 0.01, 0.1): 1.1,
}  # fmt: skip


def test_regret_is_percent_above_the_best_and_no_A_is_one_run_for_all():
    grid = by_optimizer(ends(HAND))
    diagonal, rankone = defaults(grid, PERCENT).to_dict("records")
    # Of Diagonal-TO the best are 2.0 and 1.0, of RankOne-TO 1.6 and 1.1.
    assert (diagonal["alpha"], diagonal["beta"]) == (0.0, 1.0)
    assert diagonal["regret"] == pytest.approx((0 + 10) / 2)
    assert diagonal["worst"] == pytest.approx(10)
    assert diagonal["paper_regret"] == pytest.approx((25 + 0) / 2)
    assert diagonal["diverged"] == pytest.approx(1 / 6)
    assert (rankone["tuned_alpha"], rankone["tuned_beta"]) == (0.0, 1.0)
    assert rankone["tuned_regret"] == pytest.approx((25 + 0) / 2)
    assert rankone["paper_regret"] == pytest.approx((0 + 100) / 2)
    lost = PERCENT.lost_by(grid[grid.optimizer == "diagonal"]).xs(0.1, level="beta").iloc[0]
    assert lost.to_dict() == {"x": 100, "y": 100}  # 150 and a diverged run
    gains = learning(grid, PERCENT).set_index(["optimizer", "problem"]).gain
    expected = {
        ("diagonal", "x"): -25, ("diagonal", "y"): 10, ("rankone", "x"): 25, ("rankone", "y"): 0,
    }  # fmt: skip
    assert gains.to_dict() == pytest.approx(expected)


def test_the_report_says_what_the_default_loses(tmp_path):
    ends(HAND).to_parquet(tmp_path / "grid.parquet")
    text = write_deep_sensitivity(tmp_path)
    assert "Diagonal-TO with the paper's α = 0.01 and β = 1 ends 12.5 percent above" in text
    assert "| RankOne-TO | 1 | 0.0 | 100.0 | 50.0 |" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"diagonal.png", "rankone.png"}


def test_together_both_grids_count_alike():
    rates = {(0.01, 0.1): (0.2, 6.0), (0.01, 1.0): (0.4, 4.0), (0.01, 0.3): (0.3, 1.0)}
    columns = ["optimizer", "alpha", "beta", "mean", "worst"]
    convex, deep = (
        pd.DataFrame([("rankone", *key, lost[which], 9.0) for key, lost in rates.items()])
        .set_axis(columns, axis=1)
        .sort_values("beta")
        for which in (0, 1)
    )
    table = together(pd.concat([convex, convex.assign(alpha=3.0)]), deep)
    assert table.of_paper.tolist() == pytest.approx([(0.5 + 1.5) / 2, (0.75 + 0.25) / 2, 1.0])
    (sentence,) = together_words(table)
    assert "loses least with α = 0.01 and β = 0.3 (0.30 decades, 1.0 percent), and" in sentence
    assert "0.30 decades and 1.0 percent at β = 0.3, 0.40 decades and 4.0 percent" in sentence
    assert together_cells(table)[1] == [
        ["RankOne-TO", "0.01", "0.20, 6.0 %", "0.30, 1.0 %", "0.40, 4.0 %"]
    ]


def one_step(make, start):
    """The new weights, gradient and weights of one step with γ = 1 from a start."""
    torch.manual_seed(0)
    w = torch.randn(5, dtype=torch.float64).requires_grad_()
    before = w.detach().numpy().copy()
    optimizer = make([w], lr=1.0, alpha=0.1, beta=0.5)
    starting(optimizer, start)
    ((w - 2) ** 4).sum().backward()
    optimizer.step()
    return w.detach().numpy(), 4 * (before - 2) ** 3, before


def stepped(g, w, a, b, gain):
    """By hand: e is what A w + b lacks of g, and the estimate leaves (1 − β − α gain) of it."""
    e = g - a * w - b
    return w - (g - (1 - 0.5 - 0.1 * gain) * e)


@pytest.mark.parametrize(
    ("name", "a", "in_b"),
    [("zero", 0.0, 0.0), ("A identity", 1.0, 0.0), ("b the first mini-batch", 0.0, 1.0)],
)
def test_a_start_is_where_the_first_step_begins(name, a, in_b):
    new, g, w = one_step(DiagonalTO, starts("diagonal")[name])
    np.testing.assert_allclose(new, stepped(g, w, a, in_b * g, w**2))


def test_a_random_c_has_length_1():
    seen = {}

    def start(variables, p):
        starts("rankone")["c random"](variables, p)
        seen.update({name: value.clone() for name, value in variables.items()})

    new, g, w = one_step(RankOneTO, start)
    assert not seen["a"].any()
    assert not seen["b"].any()
    assert float(seen["c"].norm()) == pytest.approx(1)
    gain = float(seen["c"].numpy() @ w) ** 2
    np.testing.assert_allclose(new, stepped(g, w, 0, 0, gain))


def test_random_starts_have_their_scale():
    variables = {"a": torch.zeros(10_000), "b": torch.zeros(10_000)}
    starts("diagonal")["A random, 0.1"](variables, torch.zeros(10_000))
    assert float(variables["a"].std()) == pytest.approx(0.1, rel=0.05)
    assert not variables["b"].any()


class Tuned:
    """What of the deep study's results is used."""

    class protocol:
        digest = "0"

    trials = pd.DataFrame(
        [
            {"problem": "cnn", "optimizer": name, "score": score, "settings": settings}
            for name in ("diagonal", "rankone")
            for score, settings in (
                (2.0, '{"lr": 9.0, "lr_schedule": "constant", "alpha": 1.0, "beta": 1.0}'),
                (1.0, '{"lr": 0.3, "lr_schedule": "constant", "alpha": 0.01, "beta": 0.5}'),
            )
        ]
    )


def test_starts_are_compared_with_zero_on_the_tuned_settings(small, monkeypatch, tmp_path):
    settings = best_settings(Tuned.trials, "cnn", "diagonal")
    assert settings["lr"] == 0.3
    runs = run_deep_initial(Tuned, tmp_path, show=False).set_index(["optimizer", "seed"])
    assert len(runs) == 2 * 6 * 3
    task = tiny()
    plain = train(task, task.validation, OPTIMIZERS["diagonal"], settings, 2, PLAN)[-1]
    assert runs.val_loss[("diagonal: zero", 2)] == plain["val_loss"]
    assert runs.val_loss[("diagonal: A identity", 2)] != plain["val_loss"]
    monkeypatch.setattr(initial, "train", forbidden)
    assert len(run_deep_initial(Tuned, tmp_path, show=False)) == 36
    report(tmp_path)
    table = pd.read_csv(tmp_path / "starts.csv")
    assert len(table) == 10
    assert set(table.problems) == {1}
