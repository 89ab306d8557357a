"""The statistics of every comparison: intervals, ρ, paired tests, and what counts as a win."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of Student's interval for the mean; NaN for one value, or if one is inf."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.nan
    return float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def rho(loss: float, reference: float) -> float:
    """ρ = 100 (L_ref − L)/L_ref, the relative improvement in percent; −inf when L diverged."""
    if not math.isfinite(reference):
        return math.nan
    return 100 * (reference - loss) / reference


def paired_p(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Two-sided p-value of the paired t-test, run by run on the same seed.

    NaN for fewer than two pairs or a diverged run; 1 when all pairs are equal, 0 when all differ
    by the same amount.
    """
    difference = np.subtract(losses, reference) if np.isfinite([losses, reference]).all() else []
    if len(difference) < 2:
        return math.nan
    spread = np.ptp(difference)
    if spread == 0:
        return float(difference[0] == 0)
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def smallest_p(seeds: int, problems: int = 1, by_ranks: bool = False) -> float:
    """The smallest p that a two-sided paired test can give, after Holm's correction over problems.

    Wilcoxon's test knows signs and ranks only: all differences of one sign are 2 of the 2ⁿ sign
    patterns of n seeds. The t-test needs two seeds, and then has no smallest p.

    Args:
        seeds: number of pairs.
        problems: number of tests that the correction is for.
        by_ranks: Wilcoxon's test, not the t-test.
    """
    if by_ranks:
        return min(1.0, problems * 2.0 ** (1 - seeds))
    return 0.0 if seeds > 1 else 1.0


def wilcoxon_p(values: Values, reference: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on pairs.

    Infinite differences have the highest ranks; two infinite values are equal. 1 when all pairs
    are equal.
    """
    difference = _difference(values, reference)
    if not difference.any():
        return 1.0
    # Ranks are all that counts: a number beyond every finite difference stands for infinity.
    finite = np.abs(difference[np.isfinite(difference)])
    beyond = 2 * finite.max(initial=1.0)
    ranked = np.where(np.isinf(difference), np.sign(difference) * beyond, difference)
    return float(stats.wilcoxon(ranked).pvalue)


def student(difference: Values, level: float) -> tuple[float, float]:
    """Student's interval of the mean; NaN when a difference isn't finite."""
    wide = half_width(difference.tolist(), level)
    if math.isnan(wide):
        return math.nan, math.nan
    return float(difference.mean()) - wide, float(difference.mean()) + wide


def t_p(values: Values, reference: Values) -> float:
    """Two-sided p of the paired t-test; Wilcoxon's when a run diverged, which has no mean."""
    if np.isfinite([values, reference]).all():
        return paired_p(values.tolist(), reference.tolist())
    return wilcoxon_p(values, reference)


def bootstrap(difference: Values, level: float, resamples: int) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean, seeded; NaN when a difference isn't finite."""
    if len(difference) < 2 or not np.isfinite(difference).all():
        return math.nan, math.nan
    if np.ptp(difference) == 0:
        return float(difference[0]), float(difference[0])
    # As scipy.stats.bootstrap does it, whose every call draws the same resamples anew.
    means = difference[_resamples(len(difference), resamples)].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


@cache
def _resamples(n: int, resamples: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, n, (resamples, n))


def holm(p: list[float]) -> list[float]:
    """Holm's correction: p-values that control the chance of any false positive among them."""
    # Not by statsmodels, whose every call collects garbage: a third of a second beside torch.
    ascending = np.argsort(p, kind="stable")
    scaled = np.arange(len(p), 0, -1) * np.asarray(p)[ascending]
    corrected = np.empty(len(p))
    corrected[ascending] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


# What has to stand by a difference between optimizers that were tuned separately.
SEARCH_LUCK = (
    "every optimizer has the settings that its own searches found, so that a difference includes "
    "the luck of two searches, which no test over seeds sees."
)
# The verdict where no data whatever could make a win or a loss.
TOO_FEW = "too few seeds"


def counts_text(counts: pd.Series[float], form: str = "{:.0f} / {:.0f} / {:.0f}") -> str:
    """Wins, ties and losses in words: the columns win, tie and loss, or that nothing can be told.

    Args:
        counts: how many problems are of each verdict.
        form: of the words, with places for the three.
    """
    three = [counts["win"], counts["tie"], counts["loss"]]
    return form.format(*three) if sum(three) else f"{TOO_FEW} to tell"


def counts_words(counts: pd.Series[float]) -> str:
    """The same as `counts_text`, for a sentence: 3 wins, 0 ties, 1 loss."""
    names = (("win", "wins"), ("tie", "ties"), ("loss", "losses"))
    words = (f"{counts[one]:.0f} {one if counts[one] == 1 else more}" for one, more in names)
    return counts_text(counts, ", ".join(words))


@dataclass(frozen=True)
class Tests:
    """How two optimizers are told apart on a problem.

    Attributes:
        p: name -> two-sided p-value of paired values; NaN where the test can't tell. All must be
            below the level for a win or a loss.
        interval: interval(difference, level) of the mean difference.
    """

    p: dict[str, Callable[[Values, Values], float]]
    interval: Callable[[Values, float], tuple[float, float]]


def t_and_wilcoxon(resamples: int) -> Tests:
    """The paired t-test and Wilcoxon's must agree; bootstrap intervals."""
    return Tests({"t": t_p, "wilcoxon": wilcoxon_p}, partial(bootstrap, resamples=resamples))


# For few seeds, whose signs and ranks tell nothing: Wilcoxon's smallest p of 5 pairs is 0.06.
T_ALONE = Tests({"t": lambda v, r: paired_p(v.tolist(), r.tolist())}, student)


def compared(
    table: pd.DataFrame, reference: str, level: float, tests: Tests, *, value: str
) -> pd.DataFrame:
    """Compare every optimizer with the reference on every problem that both have run.

    Args:
        table: a row per problem, optimizer and seed: those columns, `value`, and perhaps loss.
        reference: the optimizer to compare with.
        level: of the tests, after Holm's correction over the problems of an optimizer; the
            intervals are of 1 − level.
        tests: what decides.
        value: the column that decides; lower is better, inf is a diverged run.

    Returns:
        One row per optimizer and problem: difference (mean over seeds; negative is better than the
        reference; ±inf where runs of one diverged, NaN where some of both did), low and high (its
        interval), rho (of the mean losses, in percent, where there is a loss), p_ and the name of
        every test (corrected),
        and verdict. That is "win" or "loss" where all tests are below `level`, else "tie"; "too few
        seeds" where no data whatever could win. Where a run diverged, which some tests can't
        take, the one with more diverged runs loses.
    """
    keys = ["problem", "seed"]
    values = table.pivot_table(index=keys, columns="optimizer", values=value, observed=True)
    losses = None
    if "loss" in table:
        losses = table.pivot_table(index=keys, columns="optimizer", values="loss", observed=True)
    pieces = []
    for optimizer in values.columns.drop(reference) if reference in values else ():
        pairs = values[[optimizer, reference]].dropna()
        rows = []
        for name, pair in pairs.groupby(level="problem", observed=True):
            row = {"optimizer": optimizer, "problem": name} | _pair(pair, level, tests)
            if losses is not None:
                means = losses.loc[pair.index].mean()
                row["rho"] = rho(means[optimizer], means[reference])
            rows.append(row)
        if rows:
            piece = pd.DataFrame(rows)
            for test in tests.p:
                known = piece[f"p_{test}"].notna()
                piece.loc[known, f"p_{test}"] = holm(piece[f"p_{test}"][known].tolist())
            smallest = [
                max(smallest_p(n, len(rows), test == "wilcoxon") for test in tests.p)
                for n in piece.seeds
            ]
            pieces.append(piece.assign(smallest=smallest))
    columns = ["optimizer", "problem", "difference", "low", "high"]
    columns += ["rho"] * (losses is not None) + [f"p_{test}" for test in tests.p] + ["verdict"]
    if not pieces:
        nothing: pd.DataFrame = pd.DataFrame(columns=columns)
        return nothing
    result: Any = pd.concat(pieces, ignore_index=True)
    result["verdict"] = [_verdict(row, level, tests) for row in result.to_dict("records")]
    judged: pd.DataFrame = result[columns]
    return judged


def _pair(pair: pd.DataFrame, level: float, tests: Tests) -> dict[str, Any]:
    values, against = (pair.iloc[:, i].to_numpy(float) for i in (0, 1))
    difference = _difference(values, against)
    low, high = tests.interval(difference, 1 - level)
    more = int(np.isinf(values).sum()) - int(np.isinf(against).sum())
    with np.errstate(invalid="ignore"):  # of both diverged: NaN
        mean = float(difference.mean())
    return {
        "difference": mean,
        "low": low,
        "high": high,
        **{f"p_{name}": p(values, against) for name, p in tests.p.items()},
        "seeds": len(pair),
        "more_diverged": more,
    }


def _verdict(row: dict[Any, Any], level: float, tests: Tests) -> str:
    p = [row[f"p_{test}"] for test in tests.p]
    if any(map(math.isnan, p)) and row["more_diverged"]:
        return "loss" if row["more_diverged"] > 0 else "win"
    if all(value < level for value in p):
        return "win" if row["difference"] < 0 else "loss"
    return "tie" if row["smallest"] < level else TOO_FEW


def counted(comparison: pd.DataFrame) -> pd.DataFrame:
    """Wins, ties and losses of every optimizer over the problems, and what is typical of them.

    A problem with too few seeds for any verdict is none of the three.

    Args:
        comparison: from `compared`.

    Returns:
        Columns win, tie, loss, better (problems with a lower mean), and the medians of difference
        and, where it is there, of rho; the best first.
    """
    counts = pd.crosstab(comparison.optimizer, comparison.verdict)
    counts = counts.reindex(columns=["win", "tie", "loss"], fill_value=0)
    better = comparison.assign(better=comparison.difference < 0).groupby("optimizer").better.sum()
    shown = [name for name in ("difference", "rho") if name in comparison]
    medians = comparison.groupby("optimizer")[shown].median()
    table: pd.DataFrame = counts.join(better).join(medians).sort_values("difference")
    return table


def _difference(values: Values, reference: Values) -> Values:
    """Values − reference, where two infinite ones are equal."""
    both = np.isinf(values) & np.isinf(reference)
    return np.where(
        both, 0.0, np.subtract(np.where(both, 0.0, values), np.where(both, 0.0, reference))
    )
