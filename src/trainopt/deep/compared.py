"""Optimizers against a reference, task by task: paired intervals, Holm's correction, verdicts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainopt.harness.significance import holm
from trainopt.harness.statistics import TOO_FEW, half_width, paired_p, smallest_p


def compared(losses: pd.DataFrame, reference: str, level: float) -> pd.DataFrame:
    """Compare every optimizer with the reference in every task that both have run.

    Args:
        losses: columns task, optimizer, seed and val_loss, at the end of the runs.
        reference: the optimizer to compare with.
        level: of the intervals and the tests.

    Returns:
        One row per optimizer and task: difference (of the mean loss to the reference's; negative
        is better), low and high (its interval by Student's t over seeds), p (paired t, corrected by
        Holm over the tasks of an optimizer) and verdict: "win", "tie", "loss", or "too few seeds"
        where it could be nothing else whatever the runs are. Where a run
        diverged, difference is inf (of the optimizer), −inf (of the reference) or NaN (of both as
        often), and the verdict follows the number of diverged runs.
    """
    table: Any = losses.pivot(index=["task", "seed"], columns="optimizer", values="val_loss")
    if reference not in table:
        return _empty()
    pieces = []
    for optimizer in table.columns.drop(reference):
        pairs = table[[optimizer, reference]].dropna()
        rows = [
            {"optimizer": optimizer, "task": task}
            | _pair(pair[optimizer].to_numpy(), pair[reference].to_numpy(), level)
            for task, pair in pairs.groupby(level="task", sort=False)
        ]
        if rows:
            piece = pd.DataFrame(rows)
            known = piece.p.notna()
            piece.loc[known, "p"] = holm(piece.p[known].tolist()) if known.any() else []
            pieces.append(piece)
    if not pieces:
        return _empty()
    result: Any = pd.concat(pieces, ignore_index=True)
    result["verdict"] = [_verdict(row, level) for row in result.to_dict("records")]
    columns: pd.DataFrame = result[_COLUMNS]
    return columns


_COLUMNS = ["optimizer", "task", "difference", "low", "high", "p", "verdict"]


def _empty() -> pd.DataFrame:
    table: pd.DataFrame = pd.DataFrame(columns=_COLUMNS)
    return table


def _pair(
    values: NDArray[np.float64], against: NDArray[np.float64], level: float
) -> dict[str, float]:
    seeds = len(values)
    diverged = int(np.isinf(values).sum()) - int(np.isinf(against).sum())
    if not np.isfinite([values, against]).all():
        difference = math.copysign(math.inf, diverged) if diverged else math.nan
        return {
            "difference": difference,
            "low": math.nan,
            "high": math.nan,
            "p": math.nan,
            "more_diverged": diverged,
            "seeds": seeds,
        }
    difference = float((values - against).mean())
    wide = half_width((values - against).tolist(), 1 - level)
    return {
        "difference": difference,
        "low": difference - wide,
        "high": difference + wide,
        "p": paired_p(values.tolist(), against.tolist()),
        "more_diverged": 0,
        "seeds": seeds,
    }


def _verdict(row: dict[str, float], level: float) -> str:
    if row["more_diverged"]:
        return "loss" if row["more_diverged"] > 0 else "win"
    if row["p"] < level:
        return "win" if row["difference"] < 0 else "loss"
    return "tie" if smallest_p(int(row["seeds"])) < level else TOO_FEW
