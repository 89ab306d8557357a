"""What a run is measured by, on curves whose measures are known."""

import math

import numpy as np
import pandas as pd
import pytest

from trainopt.harness.outcomes import area, by_seed, first_reached, measured


def test_area_of_a_straight_line():
    # log₁₀ goes from 0 to −4 over 4 passes: the mean is −2, and −1 over the first half.
    x = np.arange(5.0)
    assert area(x, 10.0**-x, 4.0) == pytest.approx(-2)
    assert area(x, 10.0**-x, 2.0) == pytest.approx(-1)
    # Beyond its end a curve stays where it is.
    assert area(x, 10.0**-x, 8.0) == pytest.approx((-2 * 4 - 4 * 4) / 8)
    assert area(x, np.array([1, 1, math.inf, math.inf, math.inf]), 4.0) == math.inf


def test_first_reached():
    x, gap = np.arange(4.0), np.array([1.0, 0.1, 0.2, 0.01])
    assert first_reached(x, gap, 0.1) == 1
    assert first_reached(x, gap, 0.05) == 3
    assert first_reached(x, gap, 0.001) == math.inf


def test_measured_and_averaged_over_searches():
    rows = [
        {
            "problem": "c",
            "optimizer": "sgd",
            "search": search,
            "seed": 0,
            "passes": passes,
            "suboptimality": 10.0 ** (-passes * (search + 1)),
        }
        for search in (0, 1)
        for passes in (0, 1, 2)
    ]
    seconds = pd.Series({("c", "sgd"): 0.5})
    table = measured(pd.DataFrame(rows), seconds, {"c": 3.0}, target=0.01)
    assert table.final.tolist() == [-2, -4]
    assert table.loss.tolist() == pytest.approx([3.01, 3.0001])
    assert table.passes_to.tolist() == [2, 1]
    assert table.seconds_to.tolist() == [1.0, 0.5]
    assert table.area.tolist() == pytest.approx([-1, -2])
    assert table.area_seconds.tolist() == pytest.approx([-1, -2])
    assert by_seed(table).final.tolist() == [-3]
