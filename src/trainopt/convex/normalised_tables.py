"""The normalised rate against the paper's, by the measures and tests of the convex study."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from trainopt.convex.documents import signed, versus
from trainopt.convex.protocol import read_protocol
from trainopt.convex.tables import Results
from trainopt.harness.folder import write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.names import NORMALISED
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import counted, counts_text

# What both rates are compared with, besides each other.
PEERS = ("alpha0", "adam")


def write_normalised(out: Path) -> str:
    """Write comparison.csv (case by case) and summary.md; return the text.

    Raises:
        InputError: there is no folder `convex` of the convex study beside `out`.
    """
    return write_beside(out, Results.load(out.resolve().parent / "convex", read_protocol()))


def write_beside(out: Path, convex: Results) -> str:
    """The same beside any folder of the convex study."""
    both = joined(
        convex, *(pd.read_parquet(out / f"{name}.parquet") for name in ("runs", "trials"))
    )
    comparison = comparisons(both.finals, convex.protocol.level)
    comparison.to_csv(out / "comparison.csv", index=False, float_format="%.5g")
    table = totals(comparison, ends(both))
    text = f"{verdict(table)}\n\n{markdown(cells(table))}\n"
    write_whole(out / "summary.md", text.encode())
    return text


def joined(convex: Results, runs: pd.DataFrame, trials: pd.DataFrame) -> Results:
    """The convex study's results for the paper's rate and its peers, with the normalised one's."""
    names = [*NORMALISED.values(), *PEERS]
    tables = {
        name: pd.concat([old[old.optimizer.isin(names)], new], ignore_index=True)
        for name, old, new in (("runs", convex.runs, runs), ("trials", convex.trials, trials))
    }
    return replace(convex, **tables)


def ends(both: Results) -> pd.DataFrame:
    """Where the trials and the runs of the main budget end.

    Returns:
        Columns problem, optimizer, kind ("trial" or "run") and failed: whether it ends higher
        than it began, or nowhere.
    """
    start = both.runs[both.runs.passes == 0].groupby("problem", observed=True).suboptimality.first()
    trials = both.trials[both.trials.number < both.protocol.main]
    kinds = {"trial": trials.rename(columns={"score": "final"}), "run": both.main}
    pieces = [
        part[["problem", "optimizer", "final"]].assign(kind=kind) for kind, part in kinds.items()
    ]
    table: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    table["failed"] = table.final > np.log10(table.problem.astype(str).map(start.to_dict()))
    return table


def comparisons(finals: pd.DataFrame, level: float) -> pd.DataFrame:
    """Each variant at both rates against its peers, and the normalised against the paper's.

    All on the cases that the normalised one has: the columns of `compared`, and reference.
    """
    pieces = []
    for name, plain in NORMALISED.items():
        cases = finals[finals.optimizer == name].problem.unique()
        part = finals[finals.problem.isin(cases)]
        pairs = [*product((plain, name), PEERS), (name, plain)]
        for each, reference in pairs if len(cases) else ():
            pieces.append(versus(part, each, reference, level).assign(reference=reference))
    table: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    return table


def totals(comparison: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """A row per optimizer and reference.

    Returns:
        Columns optimizer, reference, problems, win, tie, loss, decades (the median over cases of
        the mean difference, negative is lower), and the shares of the optimizer's trials and runs
        on those cases that failed.
    """
    rows = []
    for (name, reference), part in comparison.groupby(["optimizer", "reference"], sort=False):
        own = ends[(ends.optimizer == name) & ends.problem.isin(part.problem)]
        counts = counted(part).loc[str(name)]
        rows.append(
            {"optimizer": name, "reference": reference, "problems": len(part)}
            | {kind: int(counts[kind]) for kind in ("win", "tie", "loss")}
            | {"decades": float(counts["difference"])}
            | {kind: float(own.failed[own.kind == kind].mean()) for kind in ("trial", "run")}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def verdict(table: pd.DataFrame) -> str:
    """What the table decides, in sentences made from it: the verdict first.

    The paper's rate, which has kernels and the paper's name, gives way where the normalised one
    wins most cases.
    """
    rows = [row for row in table.to_dict("records") if row["optimizer"] in NORMALISED]
    rows = [row for row in rows if row["reference"] == NORMALISED[row["optimizer"]]]
    better = [TITLES[row["reference"]] for row in rows if 2 * row["win"] > row["problems"]]
    decided = (
        f"The normalised rate is the better default of {' and '.join(better)}: it wins most cases"
        if better
        else "The paper's rate stays the default: the normalised one wins most cases for no variant"
    )
    words = [
        f"{TITLES[row['reference']]} {row['win']} wins, {row['tie']} ties and {row['loss']} losses "
        f"in {row['problems']} cases ({signed(row['decades'])} decades in the median)"
        for row in rows
    ]
    return f"{decided}. Normalised against the paper's rate, tuned alike: {'; '.join(words)}."


def cells(table: pd.DataFrame) -> Cells:
    """The table as texts, a row per optimizer."""
    columns = ["optimizer", "problems", "vs the paper's rate", "decades"]
    for peer in PEERS:
        columns += [f"vs {TITLES[peer]}", "decades"]
    rows = []
    for name, part in table.groupby("optimizer", sort=False):
        against = {row["reference"]: row for _, row in part.iterrows()}
        first = part.iloc[0]
        row = [TITLES[str(name)], str(first["problems"])]
        for reference in (NORMALISED.get(str(name)), *PEERS):
            found = against.get(reference)
            row += ["–", "–"] if found is None else [counts_text(found), signed(found["decades"])]
        rows.append([*row, *(f"{100 * first[kind]:.0f} %" for kind in ("trial", "run"))])
    return [*columns, "trials that end above the start", "runs"], rows
