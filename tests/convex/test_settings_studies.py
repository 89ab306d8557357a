"""The studies of settings and starts: what they say of numbers that are worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from trainopt.convex import normalised_tables
from trainopt.convex.batched import Batched
from trainopt.convex.initial import hessian_diagonal, starts
from trainopt.convex.problems import build
from trainopt.convex.sensitivity_tables import DECADES
from trainopt.harness.grid import defaults, learning, rates
from trainopt.harness.markdown import markdown
from trainopt.theory.nonconvex import slopes


def grid(gaps):
    """Two cases, a grid of (α, β) at one γ, from {(case, α, β): gap}."""
    rows = [
        {"problem": case, "optimizer": "diagonal", "lr": 0.1, "lr_schedule": "constant"}
        | {"alpha": alpha, "beta": beta, "seed": 0, "gap": gap}
        for (case, alpha, beta), gap in gaps.items()
    ]
    return pd.DataFrame(rows)


def test_regret_and_what_A_adds():
    gaps = grid(
        {
            ("x", 0.0, 1.0): -2.0, ("x", 0.01, 1.0): -3.0, ("x", 0.01, 0.1): np.inf,
            ("y", 0.0, 1.0): -4.0, ("y", 0.01, 1.0): -1.0, ("y", 0.01, 0.1): -3.5,
        }
    )  # fmt: skip
    lost = DECADES.lost_by(gaps).droplevel(["lr_schedule", "lr"])
    assert lost.loc[(0.0, 1.0)].to_dict() == {"x": 1.0, "y": 0.0}
    assert lost.loc[(0.01, 0.1)].to_dict() == {"x": 5.0, "y": 0.5}  # diverged: 5 decades
    (row,) = defaults(gaps, DECADES).to_dict("records")
    assert (row["alpha"], row["beta"], row["regret"], row["worst"]) == (0.0, 1.0, 0.5, 1.0)
    assert row["paper_regret"] == 1.5
    assert row["diverged"] == pytest.approx(1 / 6)
    by_rates = rates(gaps, DECADES).set_index(["alpha", "beta"])
    assert by_rates["mean"].to_dict() == {(0.0, 1.0): 0.5, (0.01, 0.1): 2.75, (0.01, 1.0): 1.5}
    assert by_rates.worst[(0.01, 1.0)] == 3.0
    gains = learning(gaps, DECADES).set_index("problem")
    assert gains.gain.to_dict() == {"x": 1.0, "y": -0.5}
    assert gains.alpha["x"] == 0.01


def finals(shifts):
    """Twelve seeds on case x, with a mean of −2 and these shifts by optimizer."""
    noise = np.random.default_rng(0).normal(size=12) / 100
    return pd.DataFrame(
        {"problem": "x", "optimizer": name, "seed": seed, "final": -2 + shift * (1 + noise[seed])}
        | {"loss": 1.0}
        for name, shift in shifts.items()
        for seed in range(12)
    )


@pytest.mark.parametrize(
    ("shift", "row", "verdict"),
    [
        (-1.0, "1 / 0 / 0 | −1.00", "The normalised rate is the better default of Diagonal-TO: "),
        (0.0, "0 / 1 / 0 | +0.00", "The paper's rate stays the default: "),
        (0.5, "0 / 0 / 1 | +0.50", "The paper's rate stays the default: "),
        (np.inf, "0 / 0 / 1 | +∞", "The paper's rate stays the default: "),
    ],
)
def test_the_table_decides_which_rate_is_the_default(shift, row, verdict):
    ends = finals({"diagonal": 0.0, "diagonal-normalised": shift, "alpha0": 0.0, "adam": -0.5})
    tried = pd.concat([ends.assign(kind="trial"), ends.assign(kind="run", final=-1.0)])
    tried = tried.assign(failed=tried.final > 0)
    table = normalised_tables.totals(normalised_tables.comparisons(ends, 0.05), tried)
    lines = markdown(normalised_tables.cells(table)).splitlines()[2:]
    assert (
        lines[0]
        == "| Diagonal-TO | 1 | – | – | 0 / 1 / 0 | +0.00 | 0 / 0 / 1 | +0.50 | 0 % | 0 % |"
    )
    assert lines[1].startswith(f"| Diagonal-TO, normalised | 1 | {row} | ")
    assert lines[1].endswith("| 100 % | 0 % |" if np.isinf(shift) else "| 0 % | 0 % |")
    assert normalised_tables.verdict(table).startswith(verdict)


def test_the_hessians_diagonal_is_that_of_the_dense_one():
    problem = build("diabetes-ridge")
    w = problem.initial().double()
    dense = torch.func.hessian(problem.loss)(w).reshape(problem.dim, problem.dim)
    found = hessian_diagonal(problem, torch.Generator().manual_seed(0), draws=4000)
    torch.testing.assert_close(found.double(), dense.diagonal(), rtol=0.1, atol=0.02)


def test_starts_are_what_they_are_called():
    data = Batched(build("wine-softmax"))
    d = data.problem.dim
    for learner, variables in (("diagonal", {"a": (10, d)}), ("full", {"A": (10, d, d)})):
        for name, start in starts(learner).items():
            state = {k: torch.zeros(shape) for k, shape in (variables | {"b": (10, d)}).items()}
            start(state, data, torch.Generator().manual_seed(0))
            A = next(iter(variables))
            assert bool(state[A].any()) == name.startswith("A")
            assert bool(state["b"].any()) == name.startswith("b")
    w = data.problem.initial().reshape(1, -1)
    state = {"a": torch.zeros(10, d), "b": torch.zeros(10, d)}
    starts("diagonal")["b the full gradient"](state, data, torch.Generator())
    expected = data.problem.full_gradient(data.problem.initial()).float().ravel()
    torch.testing.assert_close(state["b"], expected.expand(10, d), rtol=1e-4, atol=1e-6)
    assert not w.any()


def test_the_slope_of_a_power_is_its_exponent():
    t = np.unique(np.geomspace(1, 1500, 30).astype(int))
    curves = pd.concat(
        [
            pd.DataFrame({"t": t, "mean": (2 + seed) * t**-0.5}).assign(
                seed=seed, problem="cnn", schedule="root", optimizer="alpha0"
            )
            for seed in range(3)
        ]
    )
    (row,) = slopes(curves).to_dict("records")
    assert row["slope"] == pytest.approx(-0.5)
    assert row["low"] == pytest.approx(-0.5)
    assert -0.25 < row["logarithmic"] < -0.1
