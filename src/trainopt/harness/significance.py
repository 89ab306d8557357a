"""Paired comparisons with a reference, case by case, corrected for the number of cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from trainopt.harness.statistics import TOO_FEW, paired_p, rho, smallest_p

Values = NDArray[np.float64]


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


def t_p(values: Values, reference: Values) -> float:
    """Two-sided p of the paired t-test; Wilcoxon's when a run diverged, which has no mean."""
    if np.isfinite([values, reference]).all():
        return paired_p(values.tolist(), reference.tolist())
    return wilcoxon_p(values, reference)


def interval(difference: Values, resamples: int, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean, seeded; NaN when a difference isn't finite."""
    if len(difference) < 2 or not np.isfinite(difference).all():
        return math.nan, math.nan
    if np.ptp(difference) == 0:
        return float(difference[0]), float(difference[0])
    found = stats.bootstrap(
        (difference,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def holm(p: list[float]) -> list[float]:
    """Holm's correction: p-values that control the chance of any false positive among them."""
    # Not by statsmodels, whose every call collects garbage: a third of a second beside torch.
    ascending = np.argsort(p, kind="stable")
    scaled = np.arange(len(p), 0, -1) * np.asarray(p)[ascending]
    corrected = np.empty(len(p))
    corrected[ascending] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


def compared(table: pd.DataFrame, reference: str, level: float, resamples: int) -> pd.DataFrame:
    """Compare every optimizer with the reference in every case both have run.

    Args:
        table: from `measures.by_seed`.
        reference: the optimizer to compare with.
        level: of the tests, after Holm's correction over the cases.
        resamples: of the bootstrap.

    Returns:
        One row per optimizer and case: difference (mean over seeds of the difference of
        log₁₀(F − F*), in decades: negative is better than the reference), low and high (its 95 %
        interval), rho (of the mean losses, in percent), p_t and p_wilcoxon (corrected), and
        verdict: "win" or "loss" when both are below `level`, else "tie"; "too few seeds" where
        neither could be whatever the runs are.
    """
    final = table.pivot_table(
        index=["case", "seed"], columns="optimizer", values="final", observed=True
    )
    loss = table.pivot_table(
        index=["case", "seed"], columns="optimizer", values="loss", observed=True
    )
    pieces = []
    for optimizer in final.columns.drop(reference):
        rows = []
        pairs = final[[optimizer, reference]].dropna()
        for case, pair in pairs.groupby(level="case", observed=True):
            values, against = pair[optimizer].to_numpy(), pair[reference].to_numpy()
            difference = _difference(values, against)
            low, high = interval(difference, resamples)
            means = loss.loc[pair.index].mean()
            rows.append(
                {
                    "optimizer": optimizer,
                    "case": case,
                    "difference": float(difference.mean()),
                    "low": low,
                    "high": high,
                    "rho": rho(means[optimizer], means[reference]),
                    "p_t": t_p(values, against),
                    "p_wilcoxon": wilcoxon_p(values, against),
                    "seeds": len(pair),
                }
            )
        if rows:
            corrected = pd.DataFrame(rows)
            for name in ("p_t", "p_wilcoxon"):
                corrected[name] = holm(corrected[name].tolist())
            corrected["smallest"] = [smallest_p(n, len(rows), True) for n in corrected.seeds]
            pieces.append(corrected)
    result: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    significant = (result.p_t < level) & (result.p_wilcoxon < level)
    result["verdict"] = np.select(
        [significant & (result.difference < 0), significant, result.smallest < level],
        ["win", "loss", "tie"],
        TOO_FEW,
    )
    judged: pd.DataFrame = result.drop(columns=["seeds", "smallest"])
    return judged


def counted(comparison: pd.DataFrame) -> pd.DataFrame:
    """Wins, ties and losses of every optimizer, and the median difference over cases.

    A case with too few seeds for any verdict is none of the three.
    """
    counts = pd.crosstab(comparison.optimizer, comparison.verdict)
    counts = counts.reindex(columns=["win", "tie", "loss"], fill_value=0)
    better = comparison.assign(better=comparison.difference < 0).groupby("optimizer").better.sum()
    medians = comparison.groupby("optimizer")[["difference", "rho"]].median()
    table: pd.DataFrame = counts.join(better).join(medians).sort_values("difference")
    return table


def _difference(values: Values, reference: Values) -> Values:
    """Values − reference, where two infinite ones are equal."""
    both = np.isinf(values) & np.isinf(reference)
    return np.where(
        both, 0.0, np.subtract(np.where(both, 0.0, values), np.where(both, 0.0, reference))
    )
