"""Tables with the tasks as columns: losses, what handing over Ĝ changes, and alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import pandas as pd

from trainopt.deep.optimizers import OPTIMIZERS
from trainopt.deep.tables import TITLES, Results

Cells: TypeAlias = tuple[list[str], list[list[str]]]
"""The columns' names, and the rows."""

_MARKS = {"win": " ✓", "loss": " ✗", "tie": ""}


def losses(results: Results) -> Cells:
    """The mean final validation loss, marked by the verdict against the reference; mean ranks.

    The rank is over the tasks that are whole.
    """
    table = results.final.pivot(index="optimizer", columns="task", values="val_loss")
    table = table[results.tasks]
    verdicts = _verdicts(results.against(results.protocol.reference))
    rows = [
        [
            TITLES[str(name)],
            *(
                _number(table.loc[name, task], 3) + _MARKS[verdicts.get((str(name), task), "tie")]
                for task in results.tasks
            ),
            _number(rank, 1),
        ]
        for name, rank in results.ranks().items()
    ]
    return ["optimizer", *results.tasks, "mean rank"], rows


def handed_over(results: Results) -> Cells:
    """Optimizers on Ĝ: the difference of the final loss to the same on g, and its verdict."""
    table = results.behind
    rows = []
    for name in table.optimizer.unique() if len(table) else ():
        mine = table[table.optimizer == name].set_index("task")
        cells = [TITLES[name]]
        for task in results.tasks:
            if task in mine.index:
                row: Any = mine.loc[task]
                cells.append(_number(row.difference, 4, sign=True) + _MARKS[row.verdict])
            else:
                cells.append("–")
        rows.append(cells)
    return ["on Ĝ", *results.tasks], rows


def at_equal_settings(results: Results) -> Cells:
    """The first trials of optimizers on Ĝ: the difference of the loss to that of the same on g.

    Both have the same learning rate, schedule and momentum there, so that no search is in the
    difference; it is one run.
    """
    first = results.trials[results.trials.number == 0]
    scores = first.pivot(index="optimizer", columns="task", values="score")
    rows = []
    for name, entry in OPTIMIZERS.items():
        if entry.plain in scores.index and name in scores.index:
            change = scores.loc[name] - scores.loc[entry.plain]
            start = results.protocol.starts[name]
            setting = f"α = {start.get('alpha', 0.0):g}, β = {start['beta']:g}"
            cells = [_number(change[task], 4, sign=True) for task in results.tasks]
            rows.append([f"{entry.title.split(',')[0]}: {setting}", *cells])
    return ["first trial on Ĝ", *results.tasks], rows


def cosines(results: Results) -> Cells:
    """The mean of cos(Ĝ, ∇F) over probes and seeds; in brackets that of the mini-batch gradient."""
    rows = []
    for name in ("diagonal", "rankone", "alpha0", "adamw", "adamw-diagonal", "adamw-alpha0", "sgd"):
        mine = results.final[results.final.optimizer == name].set_index("task")
        if mine.empty:
            continue
        cells = [TITLES[name]]
        for task in results.tasks:
            row: Any = mine.loc[task] if task in mine.index else None
            cells.append(
                "–"
                if row is None
                else f"{_number(row.estimator_cos, 2)} ({_number(row.gradient_cos, 2)})"
            )
        rows.append(cells)
    return ["optimizer", *results.tasks], rows


def markdown(cells: Cells) -> str:
    """A table in Markdown."""
    columns, rows = cells
    return "\n".join(_line(row) for row in (columns, ["---"] * len(columns), *rows))


def summary(results: Results) -> str:
    """All tables in Markdown, as docs/deep.md has them."""
    tables = (losses, handed_over, at_equal_settings, cosines)
    return "\n\n".join(markdown(each(results)) for each in tables) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _verdicts(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    return {(row["optimizer"], row["task"]): row["verdict"] for row in table.to_dict("records")}


def _number(value: Any, digits: int, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{'+' if sign else ''}.{digits}f}"
