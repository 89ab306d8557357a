"""All problems at once: performance profiles, mean ranks with a critical difference, best of K."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats


def profile(costs: pd.DataFrame) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """The performance profiles of Dolan and Moré (2002).

    Args:
        costs: what each solver (columns) needs for each problem (rows); inf where it fails.

    Returns:
        The ratios τ ≥ 1, and the share of all problems that each solver (columns) solves at no more
        than τ times the lowest cost of any (rows). One that nobody solves counts, as unsolved.
    """
    best = costs.min(axis=1)
    ratios = costs.div(best.where(np.isfinite(best)), axis=0).fillna(np.inf)
    finite = ratios.to_numpy()[np.isfinite(ratios.to_numpy())]
    taus = np.unique(np.append(finite, 1.0))
    shares = {name: [(ratios[name] <= tau).mean() for tau in taus] for name in ratios}
    return taus, pd.DataFrame(shares, index=taus)


class Ranking(NamedTuple):
    """Mean ranks over problems (1 is best), Friedman's p, and Nemenyi's critical difference."""

    ranks: pd.Series[float]
    p: float
    critical_difference: float


def ranking(values: pd.DataFrame, level: float = 0.05) -> Ranking:
    """Rank solvers over problems (Demšar 2006); ranks within the critical difference are level.

    Args:
        values: lower is better; rows are problems, columns solvers, without NaN; inf ranks last.
        level: of Nemenyi's test.
    """
    problems, solvers = values.shape
    ranks = values.rank(axis=1).mean().sort_values()
    ordered = values.rank(axis=1).to_numpy()
    p = float(stats.friedmanchisquare(*ordered.T).pvalue)
    quantile = stats.studentized_range.ppf(1 - level, solvers, np.inf) / math.sqrt(2)
    difference = float(quantile * math.sqrt(solvers * (solvers + 1) / (6 * problems)))
    return Ranking(ranks, p, difference)


def cliques(ranks: pd.Series[float], critical_difference: float) -> list[tuple[int, int]]:
    """The longest stretches [first, last] of the sorted ranks that the test can't tell apart."""
    values = ranks.to_numpy()
    found: list[tuple[int, int]] = []
    for first in range(len(values)):
        last = int(np.flatnonzero(values <= values[first] + critical_difference)[-1])
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def best_of(trials: pd.DataFrame) -> pd.DataFrame:
    """The lowest score among the first K trials, for every K: the mean over searches and problems.

    Args:
        trials: columns problem, optimizer, search, number (from 0), score.

    Returns:
        Rows K = 1, 2, …, a column per optimizer. Cases differ in length, so a K has only the
        searches that are as long; scores are measured from the lowest one of their problem, so that
        problems count alike.
    """
    ordered = trials.sort_values("number")
    keys = ["problem", "optimizer", "search"]
    best = ordered.groupby(keys, observed=True).score.cummin()
    lowest = ordered.groupby("problem", observed=True).score.transform("min")
    # Where all trials so far diverged there is no best: no worse than standing still.
    gap = (best - lowest).clip(upper=5.0)
    table = ordered.assign(k=ordered.number + 1, gap=gap)
    found: pd.DataFrame = table.pivot_table(
        index="k", columns="optimizer", values="gap", observed=True
    )
    return found
