"""The tables of the convex study as texts: for the terminal, its page, and the documents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from trainopt.bench.markdown import Cells
from trainopt.bench.stats import counts_text
from trainopt.study.names import TITLES
from trainopt.study.significance import compared, counted
from trainopt.study.tables import Results


def summary_cells(
    summary: pd.DataFrame, references: tuple[str, ...]
) -> tuple[list[str], list[list[str]]]:
    """The summary as texts: the columns' names, and the rows."""
    columns = ["optimizer"]
    for reference in references:
        columns += [f"vs {TITLES[reference]}", "decades"]
    columns += ["ρ vs ADAM", "rank", "by area", "by seconds"]
    rows = []
    for name, row in summary.iterrows():
        cells = [TITLES[str(name)], *_verdicts(row, references)]
        rho = row[f"rho:{references[0]}"]
        cells.append("–" if not math.isfinite(rho) else f"{rho:+.2f} %")
        ranks = (row["rank:final"], row["rank:area"], row["rank:area_seconds"])
        rows.append([*cells, *("–" if math.isnan(rank) else f"{rank:.1f}" for rank in ranks)])
    return columns, rows


def page_cells(summary: pd.DataFrame) -> Cells:
    """The table of docs/convex.md and its like, from summary.csv."""
    references = [str(name)[4:] for name in summary if str(name).startswith("win:")]
    columns = ["optimizer"]
    for reference in references:
        columns += [f"vs {TITLES[reference]}", "decades"]
    rows = []
    for name, row in summary.set_index("optimizer").iterrows():
        rank = row["rank:final"]
        cells = [cell.replace("-", "−") for cell in _verdicts(row, references)]
        rows.append([TITLES[str(name)], *cells, "–" if math.isnan(rank) else f"{rank:.1f}"])
    return [*columns, "mean rank"], rows


def _verdicts(row: pd.Series[float], references: Sequence[str]) -> list[str]:
    """Wins / ties / losses and decades against each reference."""
    cells = []
    for reference in references:
        counts = row[[f"{verdict}:{reference}" for verdict in ("win", "tie", "loss")]]
        counts.index = pd.Index(["win", "tie", "loss"])
        cells.append("–" if counts.isna().any() else counts_text(counts))
        cells.append(_signed(row[f"difference:{reference}"]))
    return cells


# The columns of the table of ends, besides SecantTO.
_PEERS = ("adam", "schedulefree-sgd", "schedulefree-adamw", "momentum", "lbfgs", "saga")


def ends_cells(results: Results) -> Cells:
    """Where every case ended, median over seeds: SecantTO, its worst seed, and its peers.

    The last row counts SecantTO's wins, ties and losses against each of them.
    """
    finals = results.finals
    groups = finals.groupby(["case", "optimizer"], observed=True).final
    medians, worst = groups.median().unstack(), groups.max().unstack()
    peers = [name for name in _PEERS if name in medians]
    rows = []
    for case in results.cases:
        own = [medians.loc[case, "secant"], worst.loc[case, "secant"]]
        rows.append([case, *map(_end, [*own, *medians.loc[case, peers]])])
    counts = []
    for name in peers:
        both = finals[finals.optimizer.isin(["secant", name])]
        verdicts = compared(both, name, results.protocol.level, resamples=2)
        counts.append(counts_text(counted(verdicts).loc["secant"]))
    last = ["SecantTO's wins / ties / losses", "", "", *counts]
    return ["case", "SecantTO", "worst seed", *(TITLES[name] for name in peers)], [*rows, last]


def _end(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1f}".replace("-", "−") if math.isfinite(value) else "∞"


def _signed(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:+.2f}" if math.isfinite(value) else "+∞"
