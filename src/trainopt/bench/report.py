"""The report of a comparison: tables in words, the HTML page, the PNGs and the terminal table."""

from __future__ import annotations

import json
import math
from html import escape
from typing import Any

import pandas as pd
from rich.table import Table

from trainopt.bench.draw import html_pictures, save_pngs
from trainopt.bench.figures import pictures
from trainopt.bench.folder import Folder, write_whole
from trainopt.bench.optimizers import BASELINE, OPTIMIZERS
from trainopt.bench.page import filled, html_table
from trainopt.bench.stats import final_table
from trainopt.memory import human_bytes

_COLUMNS = (
    "optimizer",
    "train loss",
    "F − F*",
    "ρ vs ADAM",
    "p",
    "ρ vs α = 0",
    "p",
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
        "trainopt.bench",
        "report.html",
        problem=escape(identity["problem"]),
        title=escape(folder.manifest["title"]),
        facts=escape(_facts(folder)),
        verdict=escape(verdict(table)),
        table=html_table(_COLUMNS, _cells(table)),
        pictures=html_pictures(shown),
        settings=html_table(("optimizer", "settings"), _settings(table)),
        command=escape(folder.manifest["command"]),
        provenance=escape(_provenance(folder.manifest)),
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


def verdict(table: pd.DataFrame) -> str:
    """Two sentences: which optimizer ended lowest, and what learning A added."""
    first = table.iloc[0]
    if not math.isfinite(first.train_loss):
        return "Every optimizer diverged."
    sentences = [f"{first.title} ended with the lowest training loss."]
    learning = table[table.optimizer.isin(["full", "diagonal", "rankone"])]
    if not learning.empty and BASELINE in set(table.optimizer):
        best = learning.iloc[0]
        rho, p = best.rho_alpha0, best.p_value_alpha0
        change = f"{abs(rho):.2g} % {'lower' if rho >= 0 else 'higher'}"
        weight = f"p {'' if p < 0.001 else '= '}{_p(p)}" if math.isfinite(p) else "too few runs"
        sentences.append(
            f"Learning A at all, {best.title} against the same optimizer with α = 0, made the "
            f"training loss {change} ({weight}; seeds differ, the search for settings is one)."
        )
    return " ".join(sentences)


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return [
        [
            _name(row),
            _mean(row["train_loss"], row["train_loss_half_width"]),
            _number(row["suboptimality"], ".2e"),
            _number(row["rho"], "+.2f", " %"),
            _p(row["p_value"]),
            _number(row["rho_alpha0"], "+.2f", " %"),
            _p(row["p_value_alpha0"]),
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


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


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


def _provenance(manifest: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    machine = manifest["machine"]
    return f"{versions}; Python {machine['python']}, {machine['cores']} cores, {machine['system']}."
