"""What a study found, in plain sentences made from its counts of wins, ties and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import TOO_FEW, counted, counts_words


def standing(counts: pd.Series[float]) -> str:
    """Better than, worse than or level with: what most problems say, by their verdicts.

    Args:
        counts: the columns win, tie and loss.
    """
    if not counts[["win", "tie", "loss"]].sum():
        return f"with {TOO_FEW} to be told from"
    if counts.tie > counts.win + counts.loss:
        return "mostly level with"
    if counts.win == counts.loss:
        return "no better than"
    return "better than" if counts.win > counts.loss else "worse than"


def against(name: str, references: Mapping[str, tuple[str, pd.DataFrame]], note: str = "") -> str:
    """One optimizer against others, in a sentence: the standing and the counts.

    Args:
        name: of the optimizer.
        references: name of a reference -> what it is called here, and `compared` with it.
        note: after the name.
    """
    parts = []
    for called, comparison in references.values():
        counts = counted(comparison[comparison.optimizer == name])
        if len(counts):
            row = counts.iloc[0]
            parts.append(f"{standing(row)} {called} ({counts_words(row)})")
    *most, last = parts
    return f"{TITLES[name]}{note} is {', '.join(most) + ' and ' if most else ''}{last}."


def best_of(names: Sequence[str], comparison: pd.DataFrame) -> str:
    """The one with the most wins less losses; of equal ones that with the lowest difference."""
    counts = counted(comparison[comparison.optimizer.isin(list(names))])
    ahead = (counts.win - counts.loss).sort_values(ascending=False, kind="stable")
    return str(ahead.index[0])


def learning(names: Sequence[str], comparison: pd.DataFrame, baseline: str) -> str:
    """What learning A does for optimizers that learn it.

    Args:
        names: of these.
        comparison: with the same that learns no A.
        baseline: what that is called.
    """
    counts = counted(comparison[comparison.optimizer.isin(list(names))])
    counts = counts.reindex([name for name in names if name in counts.index])
    words = "; ".join(
        f"{TITLES[str(name)]}: {counts_words(row)}" for name, row in counts.iterrows()
    )
    helped = [TITLES[str(name)] for name, row in counts.iterrows() if row.win > row.loss]
    if not counts[["win", "tie", "loss"]].to_numpy().sum():
        return f"There are {TOO_FEW} to tell whether learning A gains over {baseline}."
    found = f"makes {' and '.join(helped)} better than" if helped else "gains nothing over"
    return f"Learning A {found} {baseline} ({words})."
