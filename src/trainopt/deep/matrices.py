"""Tables with the tasks as columns: losses, what handing over Ĝ changes, and alignment."""

from __future__ import annotations

import json
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
    return _differences("on Ĝ, against g", results.behind, results.tasks)


def learning(results: Results) -> Cells:
    """Optimizers that learn A: the difference of the final loss to α = 0, and its verdict."""
    return _differences("A learned, against α = 0", results.learned, results.tasks)


def _differences(corner: str, table: pd.DataFrame, tasks: list[str]) -> Cells:
    rows = []
    for name in table.optimizer.unique() if len(table) else ():
        mine = table[table.optimizer == name].set_index("task")
        cells = [TITLES[name]]
        for task in tasks:
            if task in mine.index:
                row: Any = mine.loc[task]
                cells.append(_number(row.difference, 4, sign=True) + _MARKS[row.verdict])
            else:
                cells.append("–")
        rows.append(cells)
    return [corner, *tasks], rows


def chosen(results: Results) -> Cells:
    """The α and β of the best trials."""
    found = results.final.set_index(["optimizer", "task"]).settings
    rows = []
    for name, entry in OPTIMIZERS.items():
        if "beta" in entry.settings and name in found:
            cells = []
            for task in results.tasks:
                settings = json.loads(found.get((name, task), "{}"))
                names = [each for each in ("alpha", "beta") if each in settings]
                cells.append(", ".join(f"{settings[each]:.2g}" for each in names) or "–")
            rows.append([entry.title, *cells])
    return ["α, β found", *results.tasks], rows


def cosines(results: Results) -> Cells:
    """The mean of cos(Ĝ, ∇F) over probes and seeds; in brackets that of the mini-batch gradient."""
    rows = []
    for name in OPTIMIZERS:
        mine = results.final[results.final.optimizer == name].set_index("task")
        if mine.empty or OPTIMIZERS[name].is_gradient:
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
    tables = (losses, learning, handed_over, chosen, cosines)
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
