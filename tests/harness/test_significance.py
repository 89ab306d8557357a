"""The statistics against worked examples."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from trainopt.harness import statistics
from trainopt.harness.statistics import (
    T_ALONE,
    bootstrap,
    counted,
    counts_text,
    holm,
    t_and_wilcoxon,
    t_p,
    wilcoxon_p,
)


def test_holm_by_hand():
    # Sorted: 0.005·4, 0.01·3, 0.03·2, then no smaller than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = [*np.random.default_rng(0).random(20) ** 4, 0.0, 1.0, 0.01, 0.01]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_wilcoxon_by_hand():
    reference = np.zeros(5)
    # All five differences have one sign: 2 of the 2⁵ sign patterns are as extreme.
    assert wilcoxon_p(np.arange(1.0, 6.0), reference) == pytest.approx(2 / 32)
    # Rank sums 14 and 1 (the smallest difference is the other way): 4 patterns.
    assert wilcoxon_p(np.array([-1.0, 2, 3, 4, 5]), reference) == pytest.approx(4 / 32)
    assert wilcoxon_p(reference, reference) == 1.0


def test_diverged_runs_have_the_highest_ranks():
    reference = np.zeros(5)
    values = np.array([math.inf, 1.0, 2.0, 3.0, 4.0])
    assert wilcoxon_p(values, reference) == pytest.approx(2 / 32)
    assert t_p(values, reference) == pytest.approx(2 / 32)
    both = np.array([math.inf, 0.0, 0.0])
    assert wilcoxon_p(both, both) == 1.0


def test_t_by_hand():
    # Differences 1, 2, 3: t = 2 / (1/√3) = 2√3 with 2 degrees of freedom, where
    # P(|T| > t) = 1 − t/√(2 + t²).
    t = 2 * math.sqrt(3)
    expected = 1 - t / math.sqrt(2 + t * t)
    assert t_p(np.array([2.0, 3.0, 4.0]), np.ones(3)) == pytest.approx(expected)


def test_bootstrap_interval():
    low, high = bootstrap(np.random.default_rng(0).normal(1.0, 1.0, 200), 0.95, 2000)
    assert low < 1.0 < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.15)
    values = np.random.default_rng(1).exponential(size=12)
    rng = np.random.default_rng(0)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=500, method="percentile", rng=rng)
    assert bootstrap(values, 0.95, 500) == pytest.approx(scipys.confidence_interval, rel=1e-12)
    assert bootstrap(np.full(4, 0.5), 0.95, 100) == (0.5, 0.5)
    assert all(map(math.isnan, bootstrap(np.array([1.0, math.inf]), 0.95, 100)))


def compared(table, reference, tests):
    return statistics.compared(table, reference, 0.05, tests, value="final")


def finals(**values):
    """A table as `by_seed` makes it, from final values by case and optimizer."""
    rows = [
        {"problem": case, "optimizer": optimizer, "seed": seed, "final": value, "loss": 10**value}
        for case, optimizers in values.items()
        for optimizer, of_seeds in optimizers.items()
        for seed, value in enumerate(of_seeds)
    ]
    return pd.DataFrame(rows)


def test_verdicts_of_constructed_cases():
    noise = np.linspace(-0.1, 0.1, 12) ** 3
    adam = -2 + noise
    table = finals(
        better={"adam": adam, "new": adam - 1 + noise},
        worse={"adam": adam, "new": adam + 1 + noise},
        level={"adam": adam, "new": adam + noise - noise.mean()},
        diverged={"adam": adam, "new": np.full(12, np.inf)},
    )
    found = compared(table, "adam", t_and_wilcoxon(200)).set_index("problem")
    assert found.verdict.to_dict() == {
        "better": "win",
        "diverged": "loss",
        "level": "tie",
        "worse": "loss",
    }
    assert found.difference["better"] == pytest.approx(-1, abs=1e-3)
    assert found.low["better"] <= found.difference["better"] <= found.high["better"]
    # ρ by its formula, from the mean losses.
    mean, reference = (10 ** (adam - 1 + noise)).mean(), (10**adam).mean()
    assert found.rho["better"] == pytest.approx(100 * (reference - mean) / reference)
    assert found.rho["diverged"] == -math.inf
    counts = counted(found.reset_index()).loc["new"]
    assert (counts.win, counts.tie, counts.loss) == (1, 1, 2)


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(5, "too few seeds"), (6, "too few seeds"), (8, "win")]
)
def test_too_few_seeds_are_no_tie(seeds, verdict):
    """Five cases, every seed far better: 5 · 2/2⁵ = 0.31 and 5 · 2/2⁶ = 0.16 are above 0.05."""
    noise = np.linspace(-0.1, 0.1, seeds) ** 3
    table = finals(**{f"case{i}": {"adam": noise, "new": noise * i - 3} for i in range(5)})
    found = compared(table, "adam", t_and_wilcoxon(10))
    assert found.verdict.tolist() == [verdict] * 5
    words = {"too few seeds": "too few seeds to tell", "win": "5 / 0 / 0"}
    assert counts_text(counted(found).loc["new"]) == words[verdict]


def test_only_common_pairs_count():
    table = finals(a={"adam": [0.0, 1.0, 2.0], "new": [0.0, 1.0]}, b={"adam": [0.0, 1.0]})
    found = compared(table, "adam", t_and_wilcoxon(100))
    assert found.problem.tolist() == ["a"]
    assert found.difference.tolist() == [0.0]


def losses(values):
    rows = [
        {"problem": case, "optimizer": name, "seed": seed, "final": loss}
        for (case, name), runs in values.items()
        for seed, loss in enumerate(runs)
    ]
    return pd.DataFrame(rows)


def test_intervals_p_values_and_holm():
    mine, ref = [1.0, 1.1, 0.9], [2.0, 2.12, 1.91]
    near, far = [1.0, 1.4, 0.7], [1.1, 1.2, 0.9]
    table = compared(
        losses({("a", "x"): mine, ("a", "ref"): ref, ("b", "x"): near, ("b", "ref"): far}),
        "ref",
        T_ALONE,
    ).set_index("problem")
    test = stats.ttest_rel(mine, ref)
    interval = test.confidence_interval(0.95)
    assert table.loc["a", "difference"] == pytest.approx(sum(mine) / 3 - sum(ref) / 3)
    assert table.loc["a", ["low", "high"]].tolist() == pytest.approx(list(interval))
    assert table.loc["a", "p_t"] == pytest.approx(2 * test.pvalue)  # the smaller of two
    assert table.loc["a", "verdict"] == "win"
    assert table.loc["b", "p_t"] == pytest.approx(stats.ttest_rel(near, far).pvalue)
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
        T_ALONE,
    ).set_index("problem")
    assert table.verdict.to_dict() == {"a": "loss", "b": "win", "c": "tie"}
    assert table.loc["a", "difference"] == math.inf
    assert math.isnan(table.loc["c", "difference"])


def test_one_seed_or_no_reference_says_nothing():
    one = losses({("a", "x"): [1.0], ("a", "ref"): [2.0]})
    found = compared(one, "ref", T_ALONE)
    assert found.verdict.tolist() == ["too few seeds"]
    assert counted(found).loc["x", ["win", "tie", "loss"]].tolist() == [0, 0, 0]
    two = losses({("a", "x"): [1.0, 3.0], ("a", "ref"): [2.0, 2.0]})
    assert compared(two, "ref", T_ALONE).verdict.tolist() == ["tie"]  # two could have told
    assert compared(one, "other", T_ALONE).empty
