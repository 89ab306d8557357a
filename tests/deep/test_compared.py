"""Verdicts against SciPy and by hand."""

import math

import pandas as pd
import pytest
from scipy import stats

from trainopt.deep.compared import compared
from trainopt.deep.tables import counted


def losses(values):
    return pd.DataFrame(
        [
            {"task": task, "optimizer": name, "seed": seed, "val_loss": loss}
            for (task, name), runs in values.items()
            for seed, loss in enumerate(runs)
        ]
    )


def test_intervals_p_values_and_holm():
    mine, ref = [1.0, 1.1, 0.9], [2.0, 2.12, 1.91]
    near, far = [1.0, 1.4, 0.7], [1.1, 1.2, 0.9]
    table = compared(
        losses({("a", "x"): mine, ("a", "ref"): ref, ("b", "x"): near, ("b", "ref"): far}),
        "ref",
        0.05,
    ).set_index("task")
    test = stats.ttest_rel(mine, ref)
    interval = test.confidence_interval(0.95)
    assert table.loc["a", "difference"] == pytest.approx(sum(mine) / 3 - sum(ref) / 3)
    assert table.loc["a", ["low", "high"]].tolist() == pytest.approx(list(interval))
    assert table.loc["a", "p"] == pytest.approx(2 * test.pvalue)  # the smaller of two
    assert table.loc["a", "verdict"] == "win"
    assert table.loc["b", "p"] == pytest.approx(stats.ttest_rel(near, far).pvalue)
    assert table.loc["b", "verdict"] == "tie"


def test_divergence_is_a_loss_and_both_alike_a_tie():
    table = compared(
        losses(
            {
                ("a", "x"): [1.0, math.inf],
                ("a", "ref"): [1.0, 1.0],
                ("b", "x"): [1.0, 1.0],
                ("b", "ref"): [math.inf, math.inf],
                ("c", "x"): [math.inf, 1.0],
                ("c", "ref"): [1.0, math.inf],
            }
        ),
        "ref",
        0.05,
    ).set_index("task")
    assert table.verdict.to_dict() == {"a": "loss", "b": "win", "c": "tie"}
    assert table.loc["a", "difference"] == math.inf
    assert math.isnan(table.loc["c", "difference"])


def test_one_seed_or_no_reference_says_nothing():
    one = losses({("a", "x"): [1.0], ("a", "ref"): [2.0]})
    found = compared(one, "ref", 0.05)
    assert found.verdict.tolist() == ["too few seeds"]
    assert counted(found).loc["x"].tolist() == [0, 0, 0]
    two = losses({("a", "x"): [1.0, 3.0], ("a", "ref"): [2.0, 2.0]})
    assert compared(two, "ref", 0.05).verdict.tolist() == ["tie"]  # two could have told
    assert compared(one, "other", 0.05).empty
