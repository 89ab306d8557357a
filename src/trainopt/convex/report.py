"""The report of the convex study: CSV tables, pictures, and one HTML page of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainopt.convex.documents import ends_cells, page_cells
from trainopt.convex.names import ABLATIONS, TO
from trainopt.convex.plots import mean_curves, save_pictures
from trainopt.convex.protocol import NEW_DATA, read_protocol
from trainopt.convex.tables import Results, headline
from trainopt.harness.folder import read_manifest, write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.outcomes import by_run, first_reached
from trainopt.harness.page import Report, Section, common, skipped, write_page
from trainopt.harness.palette import TITLES
from trainopt.harness.plots import rounded
from trainopt.harness.statistics import TOO_FEW, counts_text
from trainopt.harness.tables import cells, number
from trainopt.harness.terminal import show_report
from trainopt.harness.verdict import against, best_of, learning

_FACTS = ("rows", "n", "d", "classes", "condition", "source", "licence")
# What SecantTO is measured by.
_RIVALS = ("adam", "schedulefree-sgd", "schedulefree-adamw")


def draw_report(results: Results, out: Path) -> None:
    """Write report.html, its pictures and the CSV tables, and print what they say."""
    summary = results.summary()
    tables = {
        "summary": summary,
        "comparison": pd.concat(
            [results.against(name).assign(reference=name) for name in results.references]
        ).set_index(["reference", "optimizer", "problem"]),
        "ablations": ablations(results),
        "targets": targets(results),
        "budgets": results.budgets().set_index(["problems", "budget", "optimizer"]),
        "search-spread": results.search_spread(),
        "problems": cases(results),
        "ranks": pd.DataFrame(
            {c: results.rank(c).ranks for c in ("final", "area", "area_seconds")}
        ),
    }
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", float_format="%.5g")
    pages = [page_cells(pd.read_csv(out / "summary.csv"))]
    if "secant" in results.optimizers:
        pages.append(ends_cells(results))
    write_whole(out / "summary.md", ("\n\n".join(map(markdown, pages)) + "\n").encode())
    report = Report(
        "Strongly convex problems",
        _facts(results),
        verdict(results),
        _sections(results, tables, save_pictures(results, out)),
        results.manifest,
    )
    write_page(report, out)
    show_report(report, out)


def verdict(results: Results) -> list[str]:
    """What was found, in plain sentences: SecantTO where it ran, the best variant, learning A."""
    protocol = results.protocol
    reference = results.against(protocol.reference)
    there = {protocol.reference, *reference.optimizer}
    sentences = []
    if "secant" in there:
        rivals = {n: (TITLES[n], results.against(n)) for n in _RIVALS if n in there}
        tuned = f", untuned, against optimizers tuned with {protocol.main} trials,"
        sentences.append(against("secant", rivals, tuned))
    called = {protocol.reference: "ADAM with the same decays"}
    others = {
        name: (called.get(name, TITLES[name]), results.against(name))
        for name in results.references
        if name != protocol.baseline
    }
    variants = [name for name in TO if name in results.optimizers]
    if variants:
        note = f", the best of the paper's variants on {len(results.cases)} cases,"
        sentences.append(against(best_of(variants, reference), others, note))
    if variants and protocol.baseline in results.optimizers:
        baseline = results.against(protocol.baseline)
        sentences.append(learning(variants, baseline, "α = 0, plain momentum"))
    return sentences


def _sections(
    results: Results, tables: dict[str, pd.DataFrame], pictures: dict[str, str]
) -> list[Section]:
    def table(name: str, corner: str = "") -> Cells:
        return cells(tables[name], TITLES, corner)

    return [
        Section(
            "All cases at once",
            (
                "Wins / ties / losses: after Holm's correction over the cases, both the paired "
                "t-test and Wilcoxon's say lower, neither, or higher, on log₁₀(F − F*) at the end, "
                "paired by seed. ρ = 100 · (L_ref − L) / L_ref from the mean final losses. Ranks: "
                "1 is best.",
            ),
            {"Every optimizer": summary_cells(tables["summary"], results.references)},
        ),
        Section(
            "Case by case",
            ("Geometric means over runs. Choose a case; a box hides or shows a curve.",),
            curves=_charts(results),
        ),
        Section("Pictures of all cases", figures=pictures),
        Section("In numbers", tuple(headline(results))),
        Section(
            "What the gain is due to",
            ("Diagonal-TO with a part removed, by the median over cases of the difference to it.",),
            {"Parts removed": table("ablations")},
        ),
        Section("The cases", skipped(results.manifest), {"Cases": table("problems")}),
        Section(
            "Each case against ADAM",
            tables={"Case by case": cells(case_by_case(results), TITLES, "problem")},
        ),
        Section(
            "Passes to a target",
            (
                "The median over runs of the passes until F − F* is the given part of its start; – "
                "where fewer than half of the runs get there.",
            ),
            {"Passes": table("targets")},
        ),
        Section(
            "How much the tuning budget matters",
            tables={"Wins / ties / losses": cells(by_budget(tables["budgets"]), TITLES)},
        ),
        Section(
            "How much the luck of the search matters",
            (
                "Standard deviation between independent searches of log₁₀(F − F*), in decades: "
                "differences below it are not to be trusted, whatever their p over seeds.",
            ),
            {"Spread of the searches": table("search-spread")},
        ),
    ]


def _charts(results: Results) -> dict[str, list[dict[str, Any]]]:
    axes = {
        "title": "Distance to the optimum",
        "x": {"title": "passes over the data", "log": False},
        "y": {"title": "F − F*", "log": True},
    }
    return {
        case: [
            axes
            | {
                "lines": {
                    name: {"x": rounded(curve.index), "y": rounded(curve)}
                    for name, curve in mean_curves(results, case).items()
                }
            }
        ]
        for case in results.cases
    }


def summary_cells(summary: pd.DataFrame, references: tuple[str, ...]) -> Cells:
    """The summary as texts: the columns' names, and the rows."""
    columns = ["optimizer"]
    for reference in references:
        columns += [f"vs {TITLES[reference]}", f"decades vs {TITLES[reference]}"]
    columns += ["ρ vs ADAM", "rank", "by area", "by seconds"]
    rows = []
    for name, row in summary.iterrows():
        cells = [TITLES[str(name)]]
        for reference in references:
            counts = row[[f"{verdict}:{reference}" for verdict in ("win", "tie", "loss")]]
            counts.index = ["win", "tie", "loss"]
            cells.append("–" if counts.isna().any() else counts_text(counts))
            cells.append(number(row[f"difference:{reference}"], "+.2f"))
        cells.append(number(row[f"rho:{references[0]}"], "+.2f", " %"))
        ranks = (row["rank:final"], row["rank:area"], row["rank:area_seconds"])
        rows.append([*cells, *(number(rank, ".1f") for rank in ranks)])
    return columns, rows


def ablations(results: Results) -> pd.DataFrame:
    """Diagonal-TO against itself with a part removed: verdicts for the ablation, and decades."""
    there = [name for name in ABLATIONS if name in results.optimizers]
    rows = []
    for name in there if "diagonal" in results.optimizers else []:
        comparison = results.against("diagonal")
        part = comparison[comparison.optimizer == name]
        verdicts = part.verdict.value_counts()
        rows.append(
            {
                "optimizer": TITLES[name],
                "better than Diagonal-TO": verdicts.get("win", 0),
                "level": verdicts.get("tie", 0),
                "worse": verdicts.get("loss", 0),
                **({TOO_FEW: verdicts[TOO_FEW]} if TOO_FEW in verdicts else {}),
                "median decades worse": part.difference.median(),
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows, columns=None if rows else ["optimizer"])
    parts: pd.DataFrame = table.set_index("optimizer")
    return parts


def targets(results: Results) -> pd.DataFrame:
    """The median passes to each target, by optimizer: the median over cases, and cases reached."""
    runs = results.runs[results.runs.budget == results.protocol.main]
    rows = []
    for name, passes, gap in by_run(runs):
        reached = {
            target: first_reached(passes, gap, target * gap[0])
            for target in results.protocol.targets
        }
        rows.append(name | reached)
    table = pd.DataFrame(rows)
    columns = list(results.protocol.targets)
    by_case = table.groupby(["optimizer", "problem"], observed=True)[columns].median()
    pieces = {}
    for target in columns:
        values = by_case[target].unstack("problem")
        pieces[f"cases at {target:g}"] = np.isfinite(values).sum(axis=1)
        pieces[f"passes to {target:g}"] = values.replace(np.inf, np.nan).median(axis=1)
    result: pd.DataFrame = pd.DataFrame(pieces).rename(index=TITLES)
    ordered: pd.DataFrame = result.sort_values(f"cases at {columns[-1]:g}", ascending=False)
    return ordered


def cases(results: Results) -> pd.DataFrame:
    """The table of cases."""
    batches = {case.name: case for case in results.protocol.cases}
    rows = []
    for name in results.cases:
        case, facts = batches[name], results.manifest["problems"][name]
        rows.append(
            {"problem": name, "model": case.model, "l2": case.l2, "passes": case.passes}
            | {key: facts[key] for key in _FACTS}
        )
    table: pd.DataFrame = pd.DataFrame(rows).set_index("problem")
    return table


def case_by_case(results: Results) -> pd.DataFrame:
    """Each case against the reference: decades and verdict of our variants and α = 0."""
    table = results.against(results.protocol.reference)
    pieces = {}
    for name in (*results.ours, results.protocol.baseline):
        part = table[table.optimizer == name].set_index("problem").reindex(results.cases)
        pieces[f"{TITLES[name]}: decades"] = part.difference
        pieces[f"{TITLES[name]}: ρ %"] = part.rho
        pieces[f"{TITLES[name]}: p (t)"] = part.p_t
        pieces[f"{TITLES[name]}: p (W)"] = part.p_wilcoxon
        pieces[f"{TITLES[name]}: verdict"] = part.verdict
    wide: pd.DataFrame = pd.DataFrame(pieces)
    return wide


def by_budget(table: pd.DataFrame) -> pd.DataFrame:
    """Win / tie / loss against the reference in a column per set of cases and budget."""
    counts = table[["win", "tie", "loss"]].apply(counts_text, axis=1)
    wide = counts.unstack(["problems", "budget"])
    wide.columns = [f"{cases}, {budget} trials" for cases, budget in wide.columns]
    named: pd.DataFrame = wide.rename(index=TITLES)
    return named


def _facts(results: Results) -> str:
    protocol = results.protocol
    sets = len({case.data for case in protocol.cases if case.name in results.manifest["problems"]})
    return common(f"{len(results.cases)} cases on {sets} data sets", protocol.main, protocol.seeds)


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Draw the report of a folder of the study, quick or not, and print it."""
    kept = (read_manifest(folder) or {}).get("protocol")
    committed = [read_protocol(), read_protocol(quick=True), read_protocol(NEW_DATA)]
    fitting = [each for each in committed if each.digest == kept and protocol is None]
    chosen = fitting[0] if fitting else read_protocol(protocol)
    draw_report(Results.load(folder, chosen), folder)
