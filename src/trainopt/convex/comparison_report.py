"""The report of a comparison: tables in words, the HTML page, the PNGs and the terminal table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainopt.convex.comparison_tables import final_table
from trainopt.harness.curves import pictures
from trainopt.harness.folder import Folder
from trainopt.harness.markdown import Cells
from trainopt.harness.names import BASELINE
from trainopt.harness.optimizers import OPTIMIZERS, WITHOUT_A
from trainopt.harness.page import Report, Section, write_page
from trainopt.harness.plots import charts, save_pngs
from trainopt.harness.statistics import TOO_FEW
from trainopt.harness.tables import interval, number
from trainopt.harness.terminal import say, show
from trainopt.memory import human_bytes

_COLUMNS = (
    "optimizer", "train loss", "F − F*", "ρ vs ADAM", "ρ by learning A", "val. loss", "val. acc.",
    "‖Ĝ − ∇F‖²", "state", "ms/step",
)  # fmt: skip
_HELP = (
    "train loss: the objective F over all training rows with its l2 term, mean over seeds ± half "
    "of the 95 % interval (Student).",
    "F − F*: how far above the minimum; F* is found by another solver.",
    "ρ vs ADAM: 100 · (L_ADAM − L) / L_ADAM, from the train losses: positive when lower than "
    "ADAM's. Each has the best settings of a search of its own, and the difference includes the "
    "luck of both searches, which no test over seeds can see.",
    "ρ by learning A: 100 · (L₀ − L) / L₀, where L₀ is from the same optimizer with the same "
    "settings and seeds and A removed (α = 0): positive when learning A helps at these settings. "
    "They were searched with A, and α = 0 has a row with a search of its own: where that ends "
    "lower, the settings lean on A, and A is no gain. In brackets the 95 % interval over seeds "
    "(Student, paired).",
    "‖Ĝ − ∇F‖²: squared error of the optimizer's own estimate of the full gradient, at its last "
    "step: Ĝ, the average of momentum, ADAM's first moment, else the mini-batch gradient.",
    "state: memory that the optimizer keeps between steps. ms/step: gradient and update together, "
    "on the machine below.",
)


def write_report(folder: Folder) -> pd.DataFrame:
    """Write report.html and the PNGs of all runs in `folder`; return the final table."""
    table = final_table(folder.runs)
    identity = folder.manifest["identity"]
    problem, searched = identity["problem"], identity["tune"] > 0
    shown = pictures(folder.runs)
    save_pngs(shown, problem, folder.path)
    sections = [
        Section(
            "At the end of the last epoch",
            (details(table, searched),),
            {"Means over seeds": (list(_COLUMNS), _cells(table))},
        ),
        Section(
            "On the way",
            (
                "Lines are means over seeds (geometric on a logarithmic axis), bands reach from "
                "the lowest to the highest seed. A box hides or shows a curve; drag to zoom, "
                "double-click to see all.",
            ),
            curves={problem: charts(shown)},
        ),
        Section(
            "Settings",
            tables={"Found by the searches": (["optimizer", "settings"], _settings(table))},
        ),
        Section("How to read it", _HELP),
    ]
    facts = f"{folder.manifest['title']}. {_facts(folder)}"
    report = Report(problem, facts, verdict(table, problem), sections, folder.manifest)
    write_page(report, folder.path)
    return table


def terminal_cells(table: pd.DataFrame) -> Cells:
    """The final table for a terminal, without the columns that would not fit."""
    left_out = ("val. loss", "val. acc.", "‖Ĝ − ∇F‖²")
    kept = [i for i, column in enumerate(_COLUMNS) if column not in left_out]
    rows = [[row[i].split(" ±")[0] for i in kept] for row in _cells(table)]
    return [_COLUMNS[i] for i in kept], rows


def verdict(table: pd.DataFrame, problem: str) -> list[str]:
    """The best Trainable Optimizer against the best of the others, and what learning A gains.

    Args:
        table: from `final_table`.
        problem: its name.
    """
    ended = table[np.isfinite(table.train_loss)]
    if ended.empty:
        return [f"On {problem}, every optimizer diverged."]
    learning = ended[ended.optimizer.isin(list(WITHOUT_A))]
    others = ended[~ended.optimizer.isin([*WITHOUT_A, BASELINE])]
    if learning.empty or others.empty:
        return [f"On {problem}, {ended.iloc[0].title} ends lowest."]
    best, other = learning.iloc[0], others.iloc[0]
    lower, higher = sorted((best, other), key=lambda row: float(row.train_loss))
    percent = 100 * (1 - lower.train_loss / higher.train_loss)
    rivals = "the best Trainable Optimizer" if higher is best else "the best of the others"
    seeds = math.hypot(lower.train_loss_half_width, higher.train_loss_half_width)
    told = higher.train_loss - lower.train_loss > seeds  # false for one seed, too
    found = f"ends {percent:.2g} % lower than" if told else "ends level, as far as seeds tell, with"
    sentences = [f"On {problem}, {lower.title} {found} {rivals}, {higher.title}."]
    own = ended[ended.optimizer == BASELINE]
    if len(own):
        # At the same settings, and below what a search without A finds.
        gains = learning[(learning.added_low > 0) & (learning.train_loss < own.iloc[0].train_loss)]
        names = " and ".join(gains.title)
        found = f"makes {names} better than" if names else "gains nothing over"
        sentences.append(f"Learning A {found} α = 0.")
    return sentences


def details(table: pd.DataFrame, searched: bool) -> str:
    """What learning A added at the same settings, with its intervals.

    Args:
        table: from `final_table`.
        searched: whether every optimizer's settings come from a search of its own.
    """
    sentences = ["Rows differ by the luck of their searches, too."] if searched else []
    learning = table[table.optimizer.isin(list(WITHOUT_A))]
    if not learning.empty:
        sentences += _what_learning_adds(learning, searched)
        own = table[(table.optimizer == BASELINE) & np.isfinite(table.train_loss)]
        search = "with a search of its own" if searched else "with its starting settings"
        sentences += [f"α = 0 {search} ended at {loss:.5f}." for loss in own.train_loss]
    return " ".join(sentences)


def _what_learning_adds(learning: pd.DataFrame, searched: bool) -> list[str]:
    measured = learning[learning.added.notna()]
    if measured.empty:
        return [
            "What learning A adds was not measured in these runs: `trainopt compare`, called again "
            "with the same folder, adds the runs with A removed."
        ]
    *most, last = (
        f"{number(row.added, '+.2g')}{interval(row.added_low, row.added_high, '+.2g')} "
        f"for {row.title}"
        for row in measured.itertuples()
    )
    changes = f"{', '.join(most)} and {last}" if most else last
    found = (
        f"With A removed at the same settings the training loss changes by {changes} "
        "(95 % intervals over seeds; above 0, A helps at these settings"
        f"{', which were searched with A' if searched else ''})."
    )
    if ((measured.added_low > 0) | (measured.added_high < 0)).any():
        return [found]
    if measured.added_low.isna().all():
        return [found, f"That is {TOO_FEW} to tell it from no change."]
    return [found, "These seeds can't tell that from no change."]


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return [
        [
            _name(row),
            _mean(row["train_loss"], row["train_loss_half_width"]),
            number(row["suboptimality"], ".2e"),
            number(row["rho"], "+.2f", " %"),
            number(row["rho_added"], "+.2f", " %")
            + interval(row["rho_added_low"], row["rho_added_high"], "+.2f"),
            number(row["val_loss"], ".4f"),
            number(100 * row["val_accuracy"], ".1f", " %"),
            number(row["estimator_error"], ".2e"),
            human_bytes(row["state_bytes"]),
            number(row["ms_per_step"], ".2f"),
        ]
        for row in table.to_dict("records")
    ]


def _name(row: dict[Any, Any]) -> str:
    diverged, seeds = row["diverged"], row["seeds"]
    return str(row["title"]) + (f" ({diverged} of {seeds} diverged)" if diverged else "")


def _mean(value: float, half_width: float) -> str:
    return f"{number(value, '.5f')}" + ("" if math.isnan(half_width) else f" ± {half_width:.5f}")


def _settings(table: pd.DataFrame) -> list[list[str]]:
    settings = dict(zip(table.optimizer, table.settings, strict=True))
    return [
        [
            entry.title,
            ", ".join(f"{k} = {_short(v)}" for k, v in json.loads(settings[name]).items()),
        ]
        for name, entry in OPTIMIZERS.items()
        if name in settings
    ]


def _short(value: float | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _facts(folder: Folder) -> str:
    manifest, identity = folder.manifest, folder.manifest["identity"]
    seeds = folder.runs.groupby("optimizer").seed.nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    trials = identity["tune"]
    return (
        f"{manifest['n']} training rows, {manifest['dim']} weights, batches of "
        f"{identity['batch_size']}, l2 = {identity['l2']:g}, {identity['epochs']} epochs, {count} "
        f"seeds; {f'{trials} tuning trials' if trials else 'no tuning'} per optimizer. "
        f"F* = {manifest['optimum']['value']:.10g}, from an independent solver, with "
        f"‖∇F‖ = {manifest['optimum']['gradient_norm']:.1e}."
    )


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Draw the report of a comparison, and print it."""
    results = Folder.load(folder)
    show_table(write_report(results), folder)


def show_table(table: pd.DataFrame, folder: Path) -> None:
    """Print the final table, what it says, and where the report is."""
    show(terminal_cells(table))
    identity = Folder.load(folder).manifest["identity"]
    found = " ".join(verdict(table, identity["problem"]))
    more = details(table, identity["tune"] > 0)
    say("\n" + "\n".join(filter(None, [found, more, f"Report: {folder / 'report.html'}"])))
