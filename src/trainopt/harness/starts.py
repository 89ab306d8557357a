"""What the starts of A and b change: every start against zero, by paired tests over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from trainopt.harness.folder import write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.names import OPTIMIZER_TITLES
from trainopt.harness.statistics import compared, t_and_wilcoxon

REFERENCE = "zero"
_LEVEL = 0.05


def write_starts(out: Path, value: str, unit: str) -> str:
    """Write comparison.csv (problem by problem), starts.csv and summary.md; return the text.

    Args:
        out: with runs.parquet: learner (the optimizer), optimizer ("learner: start"), seed, and
            the two columns that follow.
        value: the column with the end of a run; lower is better, inf is a diverged one.
        unit: of that.
    """
    runs = pd.read_parquet(out / "runs.parquet")
    comparison = against_zero(runs, value)
    comparison.to_csv(out / "comparison.csv", index=False, float_format="%.5g")
    diverged = np.isinf(runs[value]).groupby(runs.optimizer).sum()
    table = by_start(comparison, diverged)
    table.to_csv(out / "starts.csv", index=False, float_format="%.5g")
    text = f"{verdict(table, unit)}\n\n{markdown(cells(table, unit))}\n"
    write_whole(out / "summary.md", text.encode())
    return text


def against_zero(runs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Every start against zero: the columns of `compared`, and learner and start."""
    pieces = []
    for learner, part in runs.groupby("learner", sort=False):
        reference, tests = f"{learner}: {REFERENCE}", t_and_wilcoxon(resamples=2000)
        found = compared(part, reference, _LEVEL, tests, value=value)
        names = found.optimizer.str.removeprefix(f"{learner}: ")
        pieces.append(found.assign(learner=learner, start=names))
    table: pd.DataFrame = pd.concat(pieces, ignore_index=True).drop(columns="optimizer")
    return table


def by_start(comparison: pd.DataFrame, diverged: pd.Series[int]) -> pd.DataFrame:
    """What is typical of each start.

    Args:
        comparison: from `against_zero`.
        diverged: the number of such runs by "learner: start".

    Returns:
        A row per learner and start: problems, win, tie, loss, difference (median over problems)
        and diverged.
    """
    rows = []
    for (learner, start), part in comparison.groupby(["learner", "start"], sort=False):
        counts = part.verdict.value_counts()
        rows.append(
            {"learner": learner, "start": start, "problems": len(part)}
            | {verdict: int(counts.get(verdict, 0)) for verdict in ("win", "tie", "loss")}
            | {"difference": part.difference.median()}
            | {"diverged": int(diverged[f"{learner}: {start}"])}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def verdict(table: pd.DataFrame, unit: str) -> str:
    """Which starts are better than zero on more problems than they are worse."""
    better = table[table.win > table.loss]
    if better.empty:
        return "No start is better than zero on more problems than it is worse."
    words = [
        f"{OPTIMIZER_TITLES[row['learner']]}, {row['start']} ({row['win']} better, {row['loss']} "
        f"worse, {row['difference']:+.3f} {unit} in the median)"
        for row in better.to_dict("records")
    ]
    return f"Better than zero on more problems than worse: {'; '.join(words)}."


def cells(table: pd.DataFrame, unit: str) -> Cells:
    """The table as texts."""
    columns = ["optimizer", "start", "problems", "better / level / worse than zero"]
    rows = [
        [
            OPTIMIZER_TITLES[row["learner"]],
            row["start"],
            str(row["problems"]),
            f"{row['win']} / {row['tie']} / {row['loss']}",
            f"{row['difference']:+.3f}",
            str(row["diverged"]),
        ]
        for row in table.to_dict("records")
    ]
    return [*columns, f"median {unit}", "runs that diverged"], rows
