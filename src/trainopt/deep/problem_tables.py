"""Tables with the tasks as columns: losses, what handing over Ĝ changes, and alignment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from trainopt.deep.tables import Results
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import TOO_FEW
from trainopt.harness.tables import number

_MARKS = {"win": " ✓", "loss": " ✗", "tie": "", TOO_FEW: " ?"}


def losses(results: Results) -> Cells:
    """The mean final validation loss, marked by the verdict against the reference; mean ranks.

    A question mark means that there are too few seeds for any verdict.

    The rank is over the tasks that are finished.
    """
    table = results.final.pivot(index="optimizer", columns="problem", values="val_loss")
    table = table[results.tasks]
    verdicts = _verdicts(results.against(results.protocol.reference))
    rows = [
        [
            TITLES[str(name)],
            *(
                number(table.loc[name, task], ".3f")
                + _MARKS[verdicts.get((str(name), task), "tie")]
                for task in results.tasks
            ),
            number(rank, ".1f"),
        ]
        for name, rank in results.ranks().items()
    ]
    return ["optimizer", *results.tasks, "mean rank"], rows


def estimated(results: Results) -> Cells:
    """Optimizers on Ĝ: the difference of the final loss to the same on g, and its verdict."""
    return _differences("on Ĝ, against g", results.on_estimate, results.tasks)


def learning(results: Results) -> Cells:
    """Optimizers that learn A: the difference of the final loss to α = 0, and its verdict."""
    return _differences("A learned, against α = 0", results.learned, results.tasks)


def rates(results: Results) -> Cells:
    """The normalised rate: the difference of the final loss to the paper's, and its verdict."""
    return _differences("normalised, against the paper's rate", results.normalised, results.tasks)


def _differences(corner: str, table: pd.DataFrame, tasks: list[str]) -> Cells:
    def text(row: Any) -> str:
        return number(row["difference"], "+.4f") + _MARKS[row["verdict"]]

    return _by_task(corner, table, tasks, text)


def chosen(results: Results) -> Cells:
    """The α and β of the best trials."""

    def text(row: Any) -> str:
        settings = json.loads(row["settings"])
        return ", ".join(f"{settings[name]:.2g}" for name in ("alpha", "beta") if name in settings)

    learning = [name for name, entry in OPTIMIZERS.items() if "beta" in entry.settings]
    table = results.final[results.final.optimizer.isin(learning)]
    return _by_task("α, β found", table, results.tasks, text)


def cosines(results: Results) -> Cells:
    """The mean of cos(Ĝ, ∇F) over probes and seeds; in brackets that of the mini-batch gradient."""

    def text(row: Any) -> str:
        return f"{number(row['estimator_cos'], '.2f')} ({number(row['gradient_cos'], '.2f')})"

    estimating = [name for name, entry in OPTIMIZERS.items() if not entry.is_gradient]
    table = results.final[results.final.optimizer.isin(estimating)]
    return _by_task("optimizer", table, results.tasks, text)


def _by_task(
    corner: str, table: pd.DataFrame, tasks: list[str], text: Callable[[Any], str]
) -> Cells:
    """A row per optimizer of the table, with the text of its row for each task."""
    cells = {(row["optimizer"], row["problem"]): text(row) for row in table.to_dict("records")}
    there = {optimizer for optimizer, _ in cells}
    rows = [
        [TITLES[name], *(cells.get((name, task), "–") for task in tasks)]
        for name in OPTIMIZERS
        if name in there
    ]
    return [corner, *tasks], rows


def summary(results: Results) -> str:
    """The tables in Markdown, as docs/deep.md has them, but for those without a row."""
    tables = [each(results) for each in (losses, learning, estimated, chosen, cosines, rates)]
    return "\n\n".join(markdown(table) for table in tables if table[1]) + "\n"


def _verdicts(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    return {(row["optimizer"], row["problem"]): row["verdict"] for row in table.to_dict("records")}
