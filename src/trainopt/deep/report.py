"""The report of the deep study: tables, pictures, and one HTML page of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.deep.plots import save_pictures
from trainopt.deep.problem_tables import chosen, cosines, estimated, learning, losses, summary
from trainopt.deep.protocol import read_protocol
from trainopt.deep.tables import Results, headline
from trainopt.harness import verdict as words
from trainopt.harness.folder import read_folder, write_whole
from trainopt.harness.markdown import Cells
from trainopt.harness.page import Figures, Report, Section, common, skipped, write_page
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import counted, counts_text, counts_words
from trainopt.harness.tables import number
from trainopt.harness.terminal import show_report
from trainopt.memory import human_bytes

COLUMNS = (
    "optimizer", "loss", "best", "early", "accuracy", "vs AdamW", "vs α = 0", "steps to AdamW's",
    "seconds to", "ms/step", "state", "cos(Ĝ, ∇F)", "cos(g, ∇F)", "error of Ĝ", "of g",
)  # fmt: skip


def draw_report(results: Results, out: Path) -> None:
    """Write the report, and print what it says."""
    show_report(write_report(results, out), out)


def write_report(results: Results, out: Path) -> Report:
    """Write report.html, its pictures, the CSV tables and summary.md."""
    references = (results.protocol.reference, results.protocol.baseline)
    comparison = pd.concat([results.against(name).assign(reference=name) for name in references])
    results.final.to_csv(out / "final.csv", index=False, float_format="%.5g")
    for name, table in (("comparison", comparison), ("estimated", results.on_estimate)):
        one_test = table.rename(columns={"p_t": "p"})
        one_test.to_csv(out / f"{name}.csv", index=False, float_format="%.5g")
    write_whole(out / "summary.md", summary(results).encode())
    captions = save_pictures(results, out)
    report = Report(
        "Deep networks", _facts(results), verdict(results), _sections(results, captions),
        results.manifest,
    )  # fmt: skip
    write_page(report, out)
    return report


def verdict(results: Results) -> list[str]:
    """What was found, in plain sentences: the best variant, learning A, and Ĝ in place of g."""
    protocol = results.protocol
    reference, baseline = (results.against(n) for n in (protocol.reference, protocol.baseline))
    sentences = []
    ours = [name for name in ("diagonal", "rankone") if name in set(reference.optimizer)]
    if ours:
        best = words.best_of(ours, reference)
        called = {protocol.reference: (TITLES[protocol.reference], reference)}
        where = f" on {len(results.tasks)} tasks" if len(results.tasks) > 1 else ""
        note = f", the best Trainable Optimizer{where},"
        sentences.append(words.against(best, called, note))
    ours = [name for name in ("diagonal", "rankone") if name in set(baseline.optimizer)]
    if ours:
        sentences.append(words.learning(ours, baseline, "α = 0, plain momentum"))
    learned, table = set(results.learned.optimizer), results.on_estimate
    if learned:
        table = table[table.optimizer.isin(learned)]
    if len(table):
        counts = counted(table)[["win", "tie", "loss"]].sum()
        text = counts_words(counts)
        sentences.append(
            f"Other optimizers that step along the learned Ĝ are {words.standing(counts)} the same "
            f"on the mini-batch gradient ({text})."
        )
    return sentences or ["No Trainable Optimizer has finished yet."]


def _sections(results: Results, captions: Figures) -> list[Section]:
    tasks = [_section(results, task, captions) for task in results.tasks]
    reference = TITLES[results.protocol.reference]
    overview = Section(
        "All tasks at once",
        (
            f"The mean final validation loss by task; ✓ a win, ✗ a loss against {reference}: its p "
            "is below the level after Holm's correction over the tasks, paired by seed. Ranks: 1 "
            "is best, over the tasks that are finished.",
        ),
        {"Final validation loss": losses(results), "Wins / ties / losses": _summary(results)},
        {name: text for name, text in captions.items() if "forest" in name},
    )
    first = [overview, *tasks] if len(tasks) > 1 else [*tasks, overview]
    return [
        *first,
        Section(
            "Is it only averaging?",
            (
                "Every optimizer that learns A, against the same with α = 0: a moving average of "
                "gradients. Where both hand Ĝ to another optimizer, both have its settings. The "
                "difference of the mean final loss; negative is better.",
            ),
            {"A learned, against α = 0": learning(results)},
        ),
        Section(
            "Ĝ in place of g",
            (
                "Optimizers that step along a learned estimate of the full gradient (Diagonal-TO's "
                "where nothing is said), each against itself on the mini-batch gradient, with the "
                "same learning rate, schedule and momentum: those of the plain one's search. Only "
                "α and β have a search of their own. Negative is better. With β near 1 and a small "
                "α, Ĝ is g.",
            ),
            {
                "On Ĝ, against g": estimated(results),
                "On Ĝ, against g, with intervals": _estimated(results),
                "α and β, or β alone, that the searches found": chosen(results),
            },
        ),
        Section(
            "What points along the full gradient",
            (
                "cos(Ĝ, ∇F), mean over probes and seeds; in brackets cos(g, ∇F) of the mini-batch "
                "gradient at the same steps.",
            ),
            {"Cosines": cosines(results)},
        ),
        Section(
            "How to read the tables of the tasks",
            (
                "Loss: cross-entropy on validation rows at the end, with the half width of its "
                "95 % interval over seeds; best: the lowest of each run; early: at the first mark "
                "after a quarter of the steps. Differences are paired by seed. Steps and seconds "
                f"to {reference}'s: the median over seeds of the first mark at or below its mean "
                "final loss, ∞ where most runs don't get there. Error: ‖Ĝ − ∇F‖²/‖∇F‖². For an "
                "optimizer without an average, Ĝ is g.",
            ),
        ),
        Section("In numbers", tuple(headline(results))),
        Section(
            "What the searches found", skipped(results.manifest), {"Settings": _settings(results)}
        ),
    ]


def _section(results: Results, task: str, captions: Figures) -> Section:
    facts = results.manifest["problems"][task]
    plan = next(b.plan for b in results.protocol.budgets if b.problem == task)
    size, title = facts["description"], results.title(task)
    weights = f" Weights: {facts['weights']}." if "weights" in facts else ""
    symbols = f" {facts['symbols']} symbols." if "symbols" in facts else ""
    text = (
        f"{size[0].upper()}{size[1:]}. {facts['trained']:,} weights are trained, {plan.steps} "
        f"steps of {plan.batch} rows out of {facts['rows']['train']:,}. Data: {facts['data']}."
        f"{weights}{symbols}"
    )
    name = f"curves-{task}.png"
    tables = {f"{title}: final table": task_cells(results, task)}
    return Section(title, (text,), tables, {name: captions[name]})


def task_cells(results: Results, task: str) -> Cells:
    """The table of one task, a row per optimizer."""
    verdicts = [
        _of_task(results.against(name), task)
        for name in (results.protocol.reference, results.protocol.baseline)
    ]
    rows = []
    for row in results.final[results.final.problem == task].to_dict("records"):
        name = row["optimizer"]
        diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
        rows.append(
            [
                TITLES[name] + diverged,
                number(row["val_loss"], ".4f") + f" ± {number(row['half_width'], '.4f')}",
                number(row["best_loss"], ".4f"),
                number(row["early_loss"], ".4f"),
                number(row["val_accuracy"], ".3f"),
                *(_difference(table, name) for table in verdicts),
                number(row["steps_to"], ".0f"),
                number(row["seconds_to"], ".1f"),
                number(row["ms_per_step"], ".1f"),
                human_bytes(row["state_bytes"]),
                number(row["estimator_cos"], ".2f"),
                number(row["gradient_cos"], ".2f"),
                number(row["estimator_error"], ".2f"),
                number(row["gradient_error"], ".2f"),
            ]
        )
    return list(COLUMNS), rows


def _of_task(table: pd.DataFrame, task: str) -> pd.DataFrame:
    part: pd.DataFrame = table[table.problem == task].set_index("optimizer")
    return part


def _difference(table: pd.DataFrame, name: str) -> str:
    if name not in table.index:
        return "–"
    row: Any = table.loc[name]
    return f"{number(row.difference, '+.4f')} ({row.verdict})"


def _summary(results: Results) -> Cells:
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
        rows.append([*cells, number(rank, ".1f")])
    return columns, rows


def _estimated(results: Results) -> Cells:
    columns = [
        "optimizer",
        "problem",
        "difference to the plain one",
        "95 % interval",
        "p",
        "verdict",
    ]
    rows = [
        [
            TITLES[row["optimizer"]],
            results.title(row["problem"]),
            number(row["difference"], "+.4f"),
            f"{number(row['low'], '+.4f')} to {number(row['high'], '+.4f')}",
            number(row["p_t"], ".3f"),
            row["verdict"],
        ]
        for row in results.on_estimate.to_dict("records")
    ]
    return columns, rows


def _settings(results: Results) -> Cells:
    rows = [
        [results.title(row["problem"]), TITLES[row["optimizer"]], row["settings"]]
        for row in results.final.to_dict("records")
    ]
    return ["problem", "optimizer", "best trial"], rows


def _facts(results: Results) -> str:
    protocol = results.protocol
    asked = sum(
        len(b.optimizers) for b in protocol.budgets if b.problem in results.manifest["problems"]
    )
    there = len(results.final)
    part = (
        ""
        if there == asked
        else (
            f" The study is not finished: {there} of {asked} searches are, and the tasks "
            f"{', '.join(results.finished) or 'none'} are finished."
        )
    )
    what = f"{len(results.tasks)} tasks at the {results.manifest['size']} size"
    return common(what, protocol.trials, protocol.seeds) + part


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Draw the report of a folder of the study, or of one of its tasks, and print it."""
    manifest, _ = read_folder(folder, ("runs", "trials"), None, "trainopt study deep")
    chosen = read_protocol(protocol, size=manifest["size"]).again(manifest)
    draw_report(Results.load(folder, chosen), folder)
