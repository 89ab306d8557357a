"""What a run is measured by: one row per problem, optimizer and seed, out of the table of runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Below this the gap is rounding.
FLOOR = 1e-14

Curve = NDArray[np.float64]
# What tells one run from another.
RUN = ["problem", "optimizer", "search", "seed"]


def area(x: Curve, suboptimality: Curve, end: float) -> float:
    """The mean of log₁₀(F − F*) over 0 ≤ x ≤ end, by the trapezoidal rule; inf after divergence.

    Args:
        x: ascending from 0, such as passes or seconds.
        suboptimality: F − F* there; after its last x a curve stays where it is.
        end: where the mean ends.
    """
    if not np.isfinite(suboptimality).all():
        return float("inf")
    log = np.log10(np.maximum(suboptimality, FLOOR))
    inside = x < end
    xs = np.append(x[inside], end)
    ys = np.append(log[inside], np.interp(end, x, log))
    return float(np.trapezoid(ys, xs) / end)


def first_reached(x: Curve, suboptimality: Curve, target: float) -> float:
    """The first x with F − F* ≤ target; inf when there is none."""
    reached = np.flatnonzero(suboptimality <= target)
    return float(x[reached[0]]) if reached.size else float("inf")


def by_run(runs: pd.DataFrame) -> Iterator[tuple[dict[str, Any], Curve, Curve]]:
    """The name, passes and suboptimality of every run, in the order of the names.

    Args:
        runs: columns problem, optimizer, search, seed, passes, suboptimality.
    """
    ordered = runs.sort_values([*RUN, "passes"])
    starts = np.flatnonzero(np.diff(ordered.groupby(RUN, observed=True).ngroup(), prepend=-1))
    names = ordered.iloc[starts][RUN].to_dict("records")
    passes, gaps = (
        np.split(ordered[column].to_numpy(float), starts[1:])
        for column in ("passes", "suboptimality")
    )
    yield from zip(names, passes, gaps, strict=True)


def measured(
    runs: pd.DataFrame, seconds_per_pass: pd.Series[float], best: dict[str, float], target: float
) -> pd.DataFrame:
    """Measure every run.

    Args:
        runs: columns problem, optimizer, search, seed, passes, suboptimality.
        seconds_per_pass: by (problem, optimizer).
        best: F* by problem.
        target: the part of F(0) − F* that counts as solved.

    Returns:
        One row per problem, optimizer, search and seed with final (log₁₀ of F − F* at the end; inf
        where it diverged), loss (F there), area (over passes), area_seconds (over seconds, up to
        what the reference of the problem, its median optimizer, takes), passes_to and seconds_to
        (the target; inf where it isn't reached).
    """
    ends = runs.groupby(["problem", "optimizer"], observed=True).passes.max()
    total = (ends * seconds_per_pass.reindex(ends.index)).dropna()
    horizon = total.groupby(level="problem", observed=True).median()
    per_pass = seconds_per_pass.to_dict()
    rows = []
    for name, passes, gap in by_run(runs):
        problem, optimizer = name["problem"], name["optimizer"]
        seconds = passes * per_pass.get((problem, optimizer), np.nan)
        solved = target * gap[0]
        rows.append(
            name
            | {
                "final": float(np.log10(max(gap[-1], FLOOR))),
                "loss": best[problem] + gap[-1],
                "area": area(passes, gap, passes[-1]),
                "area_seconds": area(seconds, gap, float(horizon[problem])),
                "passes_to": first_reached(passes, gap, solved),
                "seconds_to": first_reached(seconds, gap, solved),
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The means over searches: one row per problem, optimizer and seed."""
    numbers = table.drop(columns="search")
    keys = ["problem", "optimizer", "seed"]
    means: pd.DataFrame = numbers.groupby(keys, observed=True).mean().reset_index()
    return means
