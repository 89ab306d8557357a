"""What the starts of A and b change, by the measures and tests of the convex study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from trainopt.convex.initial import REFERENCE
from trainopt.harness.folder import write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.names import OPTIMIZER_TITLES
from trainopt.harness.statistics import compared, t_and_wilcoxon

_LEVEL = 0.05


def write_initial(out: Path) -> str:
    """Write comparison.csv (case by case), starts.csv and summary.md; return the text."""
    runs = pd.read_parquet(out / "runs.parquet")
    comparison = against_zero(runs)
    comparison.to_csv(out / "comparison.csv", index=False, float_format="%.5g")
    table = by_start(runs, comparison)
    table.to_csv(out / "starts.csv", index=False, float_format="%.5g")
    text = f"{verdict(table)}\n\n{markdown(cells(table))}\n"
    write_whole(out / "summary.md", text.encode())
    return text


def against_zero(runs: pd.DataFrame) -> pd.DataFrame:
    """Every start against zero, case by case: the columns of `compared`, and learner and start."""
    pieces = []
    for learner, part in runs.groupby("learner", sort=False):
        reference, tests = f"{learner}: {REFERENCE}", t_and_wilcoxon(resamples=2000)
        found = compared(part, reference, _LEVEL, tests, value="final")
        names = found.optimizer.str.removeprefix(f"{learner}: ")
        pieces.append(found.assign(learner=learner, start=names))
    table: pd.DataFrame = pd.concat(pieces, ignore_index=True).drop(columns="optimizer")
    return table


def by_start(runs: pd.DataFrame, comparison: pd.DataFrame) -> pd.DataFrame:
    """A row per learner and start: cases, win, tie, loss, decades (median over cases), diverged."""
    diverged = np.isinf(runs.final).groupby(runs.optimizer).sum()
    rows = []
    for (learner, start), part in comparison.groupby(["learner", "start"], sort=False):
        counts = part.verdict.value_counts()
        rows.append(
            {"learner": learner, "start": start, "problems": len(part)}
            | {verdict: int(counts.get(verdict, 0)) for verdict in ("win", "tie", "loss")}
            | {"decades": part.difference.median()}
            | {"diverged": int(diverged[f"{learner}: {start}"])}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def verdict(table: pd.DataFrame) -> str:
    """Which starts are better than zero on more cases than they are worse."""
    better = table[table.win > table.loss]
    if better.empty:
        return "No start is better than zero on more cases than it is worse."
    words = [
        f"{OPTIMIZER_TITLES[row['learner']]}, {row['start']} ({row['win']} better, {row['loss']} "
        f"worse, {row['decades']:+.3f} decades in the median)"
        for row in better.to_dict("records")
    ]
    return f"Better than zero on more cases than worse: {'; '.join(words)}."


def cells(table: pd.DataFrame) -> Cells:
    """The table as texts."""
    columns = [
        "optimizer",
        "start",
        "problems",
        "better / level / worse than zero",
        "median decades",
    ]
    rows = [
        [
            OPTIMIZER_TITLES[row["learner"]],
            row["start"],
            str(row["problems"]),
            f"{row['win']} / {row['tie']} / {row['loss']}",
            f"{row['decades']:+.3f}",
            str(row["diverged"]),
        ]
        for row in table.to_dict("records")
    ]
    return [*columns, "runs that diverged"], rows
