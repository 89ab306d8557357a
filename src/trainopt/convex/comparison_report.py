"""The report of a comparison: tables in words, the HTML page, the PNGs and the terminal table."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from trainopt.harness.curves import pictures
from trainopt.harness.folder import Folder, write_whole
from trainopt.harness.names import BASELINE
from trainopt.harness.optimizers import OPTIMIZERS, WITHOUT_A
from trainopt.harness.page import filled, html_table
from trainopt.harness.plots import html_pictures, save_pngs
from trainopt.harness.provenance import commands, made_by
from trainopt.harness.statistics import TOO_FEW, final_table
from trainopt.harness.terminal import say, show
from trainopt.memory import human_bytes

_COLUMNS = (
    "optimizer",
    "train loss",
    "F − F*",
    "ρ vs ADAM",
    "ρ by learning A",
    "val. loss",
    "val. acc.",
    "‖Ĝ − ∇F‖²",
    "state",
    "ms/step",
)


def write_report(folder: Folder) -> pd.DataFrame:
    """Write report.html and the PNGs of all runs in `folder`; return the final table."""
    table = final_table(folder.runs)
    identity = folder.manifest["identity"]
    shown = pictures(folder.runs)
    save_pngs(shown, identity["problem"], folder.path)
    page = filled(
        "trainopt.convex",
        "comparison.html",
        problem=escape(identity["problem"]),
        title=escape(folder.manifest["title"]),
        facts=escape(_facts(folder)),
        verdict=escape(verdict(table, searched=identity["tune"] > 0)),
        table=html_table(_COLUMNS, _cells(table)),
        pictures=html_pictures(shown),
        settings=html_table(("optimizer", "settings"), _settings(table)),
        command=escape(commands(folder.manifest)),
        provenance=escape(made_by(folder.manifest)),
    )
    write_whole(folder.path / "report.html", page.encode())
    return table


def text_table(table: pd.DataFrame) -> Table:
    """The final table for a terminal, without the columns that would not fit."""
    left_out = ("val. loss", "val. acc.", "‖Ĝ − ∇F‖²")
    kept = [i for i, column in enumerate(_COLUMNS) if column not in left_out]
    drawn = Table(box=None, padding=(0, 1))
    for i in kept:
        drawn.add_column(_COLUMNS[i], justify="right" if i else "left", no_wrap=True)
    for cells in _cells(table):
        drawn.add_row(*(cells[i].split(" ±")[0] for i in kept))
    return drawn


def verdict(table: pd.DataFrame, searched: bool) -> str:
    """Which optimizer ended lowest, and what learning A added at the same settings.

    Args:
        table: from `final_table`.
        searched: whether every optimizer's settings come from a search of its own.
    """
    first = table.iloc[0]
    if not math.isfinite(first.train_loss):
        return "Every optimizer diverged."
    luck = "; rows differ by the luck of their searches, too" if searched else ""
    sentences = [f"{first.title} ended with the lowest training loss{luck}."]
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
        f"{_number(row.added, '+.2g')}{_interval(row.added_low, row.added_high, '+.2g')} "
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
            _number(row["suboptimality"], ".2e"),
            _number(row["rho"], "+.2f", " %"),
            _number(row["rho_added"], "+.2f", " %")
            + _interval(row["rho_added_low"], row["rho_added_high"], "+.2f"),
            _number(row["val_loss"], ".4f"),
            _number(100 * row["val_accuracy"], ".1f", " %"),
            _number(row["estimator_error"], ".2e"),
            human_bytes(row["state_bytes"]),
            _number(row["ms_per_step"], ".2f"),
        ]
        for row in table.to_dict("records")
    ]


def _name(row: dict[Any, Any]) -> str:
    diverged, seeds = row["diverged"], row["seeds"]
    return str(row["title"]) + (f" ({diverged} of {seeds} diverged)" if diverged else "")


def _number(value: float, form: str, unit: str = "") -> str:
    if math.isnan(value):
        return "–"
    return f"{value:{form}}{unit}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def _mean(value: float, half_width: float) -> str:
    return f"{_number(value, '.5f')}" + ("" if math.isnan(half_width) else f" ± {half_width:.5f}")


def _interval(low: float, high: float, form: str) -> str:
    return "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"


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
    show_table(write_report(results), results.manifest["identity"]["tune"] > 0, folder)


def show_table(table: pd.DataFrame, searched: bool, folder: Path) -> None:
    """Print the final table, what it says, and where the report is."""
    show(text_table(table))
    say(f"\n{verdict(table, searched)}\nReport: {folder / 'report.html'}")
