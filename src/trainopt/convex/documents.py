"""The tables of the convex study as the documents have them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from trainopt.convex.tables import Results
from trainopt.harness.markdown import Cells
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import compared, counted, counts_text, t_and_wilcoxon


def page_cells(summary: pd.DataFrame) -> Cells:
    """The table of docs/convex.md and its like, from summary.csv."""
    references = [str(name)[4:] for name in summary if str(name).startswith("win:")]
    columns = ["optimizer"]
    for reference in references:
        columns += [f"vs {TITLES[reference]}", "decades"]
    rows = []
    for name, row in summary.set_index("optimizer").iterrows():
        rank = row["rank:final"]
        cells = _verdicts(row, references)
        rows.append([TITLES[str(name)], *cells, "–" if math.isnan(rank) else f"{rank:.1f}"])
    return [*columns, "mean rank"], rows


def _verdicts(row: pd.Series[float], references: Sequence[str]) -> list[str]:
    """Wins / ties / losses and decades against each reference."""
    cells = []
    for reference in references:
        counts = row[[f"{verdict}:{reference}" for verdict in ("win", "tie", "loss")]]
        counts.index = pd.Index(["win", "tie", "loss"])
        cells.append("–" if counts.isna().any() else counts_text(counts))
        cells.append(signed(row[f"difference:{reference}"]))
    return cells


# The columns of the table of ends, besides SecantTO.
_PEERS = ("adam", "schedulefree-sgd", "schedulefree-adamw", "momentum", "lbfgs", "saga")


def ends_cells(results: Results) -> Cells:
    """Where every case ended, median over seeds: SecantTO, its worst seed, and its peers.

    The last row counts SecantTO's wins, ties and losses against each of them.
    """
    finals = results.finals
    groups = finals.groupby(["problem", "optimizer"], observed=True).final
    medians, worst = groups.median().unstack(), groups.max().unstack()
    peers = [name for name in _PEERS if name in medians]
    rows = []
    for case in results.cases:
        own = [medians.loc[case, "secant"], worst.loc[case, "secant"]]
        rows.append([case, *map(_end, [*own, *medians.loc[case, peers]])])
    counts = []
    for name in peers:
        verdicts = versus(finals, "secant", name, results.protocol.level)
        counts.append(counts_text(counted(verdicts).loc["secant"]))
    last = ["SecantTO's wins / ties / losses", "", "", *counts]
    return ["problem", "SecantTO", "worst seed", *(TITLES[name] for name in peers)], [*rows, last]


def versus(finals: pd.DataFrame, name: str, reference: str, level: float) -> pd.DataFrame:
    """One optimizer against another on the cases that both have: `compared`, without intervals.

    Args:
        finals: columns problem, optimizer, seed, final and loss, of any optimizers.
        name: of the one.
        reference: of the other.
        level: of the tests, corrected over the cases.
    """
    both = finals[finals.optimizer.isin([name, reference])]
    tests = t_and_wilcoxon(resamples=2)  # which is enough for p
    found = compared(both, reference, level, tests, value="final")
    table: pd.DataFrame = found.drop(columns=["low", "high"])
    return table


def _end(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1f}".replace("-", "−") if math.isfinite(value) else "∞"


def signed(value: float) -> str:
    """A difference in decades."""
    if math.isnan(value):
        return "–"
    return f"{value:+.2f}".replace("-", "−").replace("inf", "∞")
