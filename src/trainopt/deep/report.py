"""The report of the deep study: tables, pictures, and one HTML page of both."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.deep.plots import save_pictures
from trainopt.deep.problem_tables import chosen, cosines, handed_over, learning, losses, summary
from trainopt.deep.protocol import read_protocol
from trainopt.deep.tables import TITLES, Results, counted, headline
from trainopt.deep.tasks import TASKS
from trainopt.harness.folder import read_folder, write_whole
from trainopt.harness.page import filled, html_table
from trainopt.harness.provenance import commands, made_by
from trainopt.harness.statistics import counts_text
from trainopt.harness.terminal import say, show
from trainopt.memory import human_bytes

COLUMNS = (
    "optimizer", "loss", "best", "early", "accuracy", "vs AdamW", "vs α = 0", "steps to AdamW's",
    "seconds to", "ms/step", "state", "cos(Ĝ, ∇F)", "cos(g, ∇F)", "error of Ĝ", "of g",
)  # fmt: skip


def write_deep_report(results: Results, out: Path) -> None:
    """Write report.html, its pictures, the CSV tables and summary.md."""
    references = (results.protocol.reference, results.protocol.baseline)
    comparison = pd.concat([results.against(name).assign(reference=name) for name in references])
    results.final.to_csv(out / "final.csv", index=False, float_format="%.5g")
    comparison.to_csv(out / "comparison.csv", index=False, float_format="%.5g")
    results.behind.to_csv(out / "estimated.csv", index=False, float_format="%.5g")
    write_whole(out / "summary.md", summary(results).encode())
    captions = save_pictures(results, out)
    page = filled(
        "trainopt.deep",
        "report.html",
        facts=escape(_facts(results)),
        headline="<br>".join(escape(sentence) for sentence in headline(results)),
        losses=html_table(*losses(results)),
        summary=html_table(*_summary(results)),
        learning=html_table(*learning(results)),
        handed_over=html_table(*handed_over(results)),
        estimated=html_table(*_behind(results)),
        chosen=html_table(*chosen(results)),
        cosines=html_table(*cosines(results)),
        tasks="\n".join(_section(results, task, captions) for task in results.tasks),
        pictures="\n".join(_figure(n, text) for n, text in captions.items() if "forest" in n),
        skipped=escape(_skipped(results)),
        settings=html_table(*_settings(results)),
        command=escape(commands(results.manifest)),
        provenance=escape(made_by(results.manifest)),
    )
    write_whole(out / "report.html", page.encode())


def task_cells(results: Results, task: str) -> list[list[str]]:
    """The table of one task as texts, a row per optimizer, under `COLUMNS`."""
    verdicts = [
        _of_task(results.against(name), task)
        for name in (results.protocol.reference, results.protocol.baseline)
    ]
    rows = []
    for row in results.final[results.final.task == task].to_dict("records"):
        name = row["optimizer"]
        diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
        rows.append(
            [
                TITLES[name] + diverged,
                _number(row["val_loss"], 4) + f" ± {_number(row['half_width'], 4)}",
                _number(row["best_loss"], 4),
                _number(row["early_loss"], 4),
                _number(row["val_accuracy"], 3),
                *(_difference(table, name) for table in verdicts),
                _number(row["steps_to"], 0),
                _number(row["seconds_to"], 1),
                _number(row["ms_per_step"], 1),
                human_bytes(row["state_bytes"]),
                _number(row["estimator_cos"], 2),
                _number(row["gradient_cos"], 2),
                _number(row["estimator_error"], 2),
                _number(row["gradient_error"], 2),
            ]
        )
    return rows


def _of_task(table: pd.DataFrame, task: str) -> pd.DataFrame:
    part: pd.DataFrame = table[table.task == task].set_index("optimizer")
    return part


def _difference(table: pd.DataFrame, name: str) -> str:
    if name not in table.index:
        return "–"
    row: Any = table.loc[name]
    return f"{_signed(row.difference)} ({row.verdict})"


def _summary(results: Results) -> tuple[list[str], list[list[str]]]:
    columns, counts = ["optimizer"], []
    for reference in (results.protocol.reference, results.protocol.baseline):
        table = results.against(reference)
        columns += [f"vs {TITLES[reference]}: win / tie / loss"]
        counts.append(counted(table) if len(table) else pd.DataFrame())
    columns.append("mean rank by loss")
    rows = []
    for name, rank in results.ranks().items():
        cells = [TITLES[str(name)]]
        for table in counts:
            there = name in table.index
            cells.append(counts_text(table.loc[str(name)]) if there else "–")
        rows.append([*cells, _number(rank, 1)])
    return columns, rows


def _behind(results: Results) -> tuple[list[str], list[list[str]]]:
    columns = ["optimizer", "task", "difference to the plain one", "95 % interval", "p", "verdict"]
    rows = [
        [
            TITLES[row["optimizer"]],
            TASKS[row["task"]].title,
            _signed(row["difference"]),
            f"{_signed(row['low'])} to {_signed(row['high'])}",
            _number(row["p"], 3),
            row["verdict"],
        ]
        for row in results.behind.to_dict("records")
    ]
    return columns, rows


def _section(results: Results, task: str, captions: dict[str, str]) -> str:
    facts = results.manifest["tasks"][task]
    entry = TASKS[task]
    plan = next(b.plan for b in results.protocol.budgets if b.task == task)
    size = entry.small if results.manifest["size"] == "cpu" else entry.full
    weights = f" Weights: {facts['weights']}." if "weights" in facts else ""
    symbols = f" {facts['symbols']} symbols." if "symbols" in facts else ""
    text = (
        f"{size[0].upper()}{size[1:]}. {facts['trained']:,} weights are trained, {plan.steps} "
        f"steps of {plan.batch} rows out of {facts['rows']['train']:,}. Data: {facts['data']}."
        f"{weights}{symbols}"
    )
    name = f"curves-{task}.png"
    return (
        f"<h2>{escape(entry.title)}</h2>\n<p class='facts'>{escape(text)}</p>\n"
        f"<div class='scroll'>{html_table(COLUMNS, task_cells(results, task))}</div>\n"
        + _figure(name, captions[name])
    )


def _figure(name: str, caption: str) -> str:
    return f'<figure><img src="{name}" alt=""><figcaption>{escape(caption)}</figcaption></figure>'


def _settings(results: Results) -> tuple[list[str], list[list[str]]]:
    rows = [
        [TASKS[row["task"]].title, TITLES[row["optimizer"]], row["settings"]]
        for row in results.final.to_dict("records")
    ]
    return ["task", "optimizer", "best trial"], rows


def _facts(results: Results) -> str:
    protocol = results.protocol
    wanted = sum(len(b.optimizers) for b in protocol.budgets if b.task in results.manifest["tasks"])
    there = len(results.final)
    part = (
        ""
        if there == wanted
        else (
            f" The study is not finished: {there} of {wanted} searches are, and the tasks "
            f"{', '.join(results.whole) or 'none'} are whole."
        )
    )
    return (
        f"{len(results.tasks)} tasks at the {results.manifest['size']} size; every optimizer with "
        f"{protocol.trials} trials, then {protocol.seeds} fresh seeds. Starting point and data "
        f"order are common to all optimizers with one seed.{part}"
    )


def _skipped(results: Results) -> str:
    skipped = results.manifest["skipped"]
    if not skipped:
        return ""
    return "Skipped, and not counted: " + " ".join(f"{k}: {v}" for k, v in skipped.items())


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else "∞"


def _signed(value: float) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    return f"{value:+.4f}"


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Draw the report of a folder of the study, or of one of its tasks, and print it."""
    manifest, tables = read_folder(folder, ("runs", "trials"), None, "trainopt study deep")
    kept, size = manifest["protocol"], manifest["size"]
    made = [read_protocol(protocol, size=size, quick=quick) for quick in (False, True)]
    of_tasks = made[0].only(list(manifest["tasks"]))
    trials = int(tables["trials"].groupby(["task", "optimizer"]).size().max())
    names, seeds = list(tables["runs"].optimizer.unique()), tables["runs"].seed.nunique()
    made.append(of_tasks.with_counts(names, trials, seeds))
    show_report(Results.load(folder, next((p for p in made if p.digest == kept), made[0])), folder)


def show_report(results: Results, out: Path) -> None:
    """Write the report, and print its tables and sentences."""
    from rich.table import Table

    write_deep_report(results, out)
    for name in results.tasks:
        table = Table(
            *COLUMNS, title=TASKS[name].title, title_justify="left", box=None, padding=(0, 1)
        )
        for row in task_cells(results, name):
            table.add_row(*row)
        show(table)
    for name, reason in results.manifest["skipped"].items():
        say(f"{name} is skipped: {reason}")
    say("\n" + "\n".join(headline(results)) + f"\nReport: {out / 'report.html'}")
