"""Statistics against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from trainopt.convex.comparison_tables import final_table
from trainopt.harness.statistics import half_width, paired_p, rho, smallest_p


def test_half_width():
    # n = 4, sd = 2, t(0.975, 3) = 3.182446: 3.182446 · 2/√4
    values = [1.0, 1.0, 1.0 + 2 * math.sqrt(3), 1.0 + 2 * math.sqrt(3)]
    assert np.std(values, ddof=1) == pytest.approx(2.0)
    assert half_width(values) == pytest.approx(3.182446, rel=1e-6)
    assert math.isnan(half_width([1.0]))
    assert math.isnan(half_width([1.0, math.inf]))


def test_rho():
    assert rho(0.5, 1.0) == 50
    assert rho(2.0, 1.0) == -100
    assert rho(math.inf, 1.0) == -math.inf
    assert math.isnan(rho(1.0, math.inf))


def test_paired_p():
    # differences 1, 2, 3: t = 2/(1/√3) = 3.4641, and P(|t₂| > 3.4641) = 0.0742
    assert paired_p([2.0, 3.0, 4.0], [1.0, 1.0, 1.0]) == pytest.approx(0.0742, abs=1e-4)
    assert paired_p([1.0, 2.0], [1.0, 2.0]) == 1
    assert paired_p([2.0, 3.0], [1.0, 2.0]) == 0
    assert math.isnan(paired_p([1.0], [2.0]))
    assert math.isnan(paired_p([1.0, math.inf], [2.0, 2.0]))


def test_the_smallest_p_is_what_the_clearest_data_give():
    for seeds in range(2, 9):
        clearest = stats.wilcoxon(np.arange(1.0, seeds + 1)).pvalue
        assert smallest_p(seeds, by_ranks=True) == pytest.approx(clearest)
    corrected = multipletests([2 / 2**8] * 5, method="holm")[1]
    assert smallest_p(8, 5, by_ranks=True) == pytest.approx(corrected[0])
    assert smallest_p(3, 27, by_ranks=True) == 1
    assert smallest_p(1) == 1
    assert smallest_p(2) == 0  # two equal differences: t is infinite


def row(optimizer, seed, epoch, loss):
    return {
        "problem": "p",
        "optimizer": optimizer,
        "settings": "{}",
        "seed": seed,
        "step": 10 * epoch,
        "epoch": epoch,
        "seconds": 0.02 * epoch,
        "train_loss": loss,
        "suboptimality": loss - 0.1,
        "estimator_error": 1.0,
        "val_loss": loss,
        "val_accuracy": 0.5,
        "state_bytes": 8,
    }


def test_final_table():
    runs = pd.DataFrame(
        [row("adam", seed, epoch, 1.0 / (epoch + 1)) for seed in range(3) for epoch in range(2)]
        + [row("full", seed, epoch, 0.8 / (epoch + 1)) for seed in range(2) for epoch in range(2)]
        + [row("sgd", 0, 1, math.inf), row("sgd", 1, 1, 0.5)]
    )
    table = final_table(runs).set_index("optimizer")
    assert list(table.index) == ["full", "adam", "sgd"]
    assert table.loc["full", "rho"] == pytest.approx(20.0)
    assert table.loc["full", "seeds"] == 2
    assert math.isnan(table.loc["adam", "rho"])
    assert math.isnan(table.loc["full", "added"])
    assert table.loc["sgd", "diverged"] == 1
    assert table.loc["sgd", "rho"] == -math.inf
    assert table.loc["adam", "ms_per_step"] == pytest.approx(2.0)
