"""Profiles, ranks and best-of-K against worked and published examples."""

import math

import numpy as np
import pandas as pd
import pytest

from trainopt.harness.ranking import best_of, cliques, profile, ranking


def test_profile_by_hand():
    costs = pd.DataFrame(
        {"x": [1.0, 4.0, math.inf, math.inf], "y": [2.0, 2.0, 3.0, math.inf]},
        index=["a", "b", "c", "nobody"],
    )
    taus, shares = profile(costs)
    assert taus.tolist() == [1.0, 2.0]
    # x is best on a, within 2 on b, fails on c; y is within 2 on a and best on b and c.
    assert shares.x.tolist() == [1 / 4, 2 / 4]
    assert shares.y.tolist() == [2 / 4, 3 / 4]


def test_the_critical_difference_of_demsar():
    """Demšar (2006), section 3.2.2: four classifiers on 14 sets have CD = 1.25."""
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(14, 4)), columns=list("abcd"))
    found = ranking(values)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.ranks.sum() == pytest.approx(4 * 5 / 2)


def test_friedman_by_hand():
    # One order on all n cases: χ² = n (k − 1) = 12, and with 2 degrees of freedom p = exp(−χ²/2).
    values = pd.DataFrame([[1.0, 2.0, 3.0]] * 6, columns=list("abc"))
    found = ranking(values)
    assert found.p == pytest.approx(math.exp(-6))
    assert found.ranks.to_dict() == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_infinite_values_rank_last():
    values = pd.DataFrame({"a": [1.0, math.inf], "b": [2.0, 3.0], "c": [3.0, math.inf]})
    assert ranking(values).ranks.to_dict() == {"a": 1.75, "b": 1.5, "c": 2.75}


def test_cliques_by_hand():
    ranks = pd.Series([1.0, 1.5, 2.4, 4.0], index=list("abcd"))
    assert cliques(ranks, 1.0) == [(0, 1), (1, 2)]
    assert cliques(ranks, 0.1) == []
    assert cliques(ranks, 5.0) == [(0, 3)]


def test_best_of_k_by_hand():
    trials = pd.DataFrame(
        {
            "problem": "c",
            "optimizer": ["x", "x", "x", "y", "y", "y"],
            "search": 0,
            "number": [0, 1, 2, 0, 1, 2],
            "score": [-1.0, -3.0, -2.0, 300.0, -2.0, -4.0],
        }
    )
    table = best_of(trials)
    assert table.x.tolist() == [3.0, 1.0, 1.0]
    assert table.y.tolist() == [5.0, 2.0, 0.0]
