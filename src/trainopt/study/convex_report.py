"""The report of the convex study: CSV tables, pictures, and one HTML page of both."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trainopt.bench.folder import write_whole
from trainopt.bench.markdown import markdown
from trainopt.bench.page import filled, html_table
from trainopt.bench.provenance import commands, made_by
from trainopt.bench.stats import TOO_FEW, counts_text
from trainopt.study.convex_cells import ends_cells, page_cells, summary_cells
from trainopt.study.measures import first_reached
from trainopt.study.names import ABLATIONS, OURS, STYLES, TITLES
from trainopt.study.pictures import mean_curves, save_pictures
from trainopt.study.tables import Results, headline

_FACTS = ("rows", "n", "d", "classes", "condition", "source", "licence")


def write_convex_report(results: Results, out: Path) -> pd.DataFrame:
    """Write report.html, its pictures and the CSV tables; return the summary."""
    tables = {
        "summary": results.summary(),
        "comparison": pd.concat(
            [results.against(name).assign(reference=name) for name in results.references]
        ).set_index(["reference", "optimizer", "case"]),
        "ablations": ablations(results),
        "targets": targets(results),
        "budgets": results.budgets().set_index(["cases", "budget", "optimizer"]),
        "search-spread": results.search_spread(),
        "cases": cases(results),
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
    captions = save_pictures(results, out)
    page = filled(
        "trainopt.study",
        "convex.html",
        facts=escape(_facts(results)),
        headline="<br>".join(escape(sentence) for sentence in headline(results)),
        summary=html_table(*summary_cells(tables["summary"], results.references)),
        ablations=_html(tables["ablations"]),
        pictures="\n".join(
            f'<figure><img src="{name}" alt=""><figcaption>{escape(text)}</figcaption></figure>'
            for name, text in captions.items()
        ),
        curves=_interactive(results),
        cases=_html(tables["cases"]),
        skipped=escape(_skipped(results)),
        comparison=_html(_wide(results)),
        targets=_html(tables["targets"]),
        budgets=_html(_budgets(tables["budgets"])),
        spread=_html(tables["search-spread"]),
        command=escape(commands(results.manifest)),
        provenance=escape(made_by(results.manifest)),
    )
    write_whole(out / "report.html", page.encode())
    summary: pd.DataFrame = tables["summary"]
    return summary


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
    keys = ["case", "optimizer", "search", "seed"]
    for key, run in runs.sort_values("passes").groupby(keys, observed=True):
        passes, gap = run.passes.to_numpy(float), run.suboptimality.to_numpy(float)
        reached = {
            target: first_reached(passes, gap, target * gap[0])
            for target in results.protocol.targets
        }
        rows.append(dict(zip(keys, key, strict=True)) | reached)
    table = pd.DataFrame(rows)
    columns = list(results.protocol.targets)
    by_case = table.groupby(["optimizer", "case"], observed=True)[columns].median()
    pieces = {}
    for target in columns:
        values = by_case[target].unstack("case")
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
        case, facts = batches[name], results.manifest["cases"][name]
        rows.append(
            {"case": name, "model": case.model, "l2": case.l2, "passes": case.passes}
            | {key: facts[key] for key in _FACTS}
        )
    table: pd.DataFrame = pd.DataFrame(rows).set_index("case")
    return table


def _wide(results: Results) -> pd.DataFrame:
    """Each case against the reference: decades and verdict of our variants and α = 0."""
    table = results.against(results.protocol.reference)
    pieces = {}
    for name in (*OURS, results.protocol.baseline):
        if name not in results.optimizers:
            continue
        part = table[table.optimizer == name].set_index("case").reindex(results.cases)
        pieces[f"{TITLES[name]}: decades"] = part.difference
        pieces[f"{TITLES[name]}: ρ %"] = part.rho
        pieces[f"{TITLES[name]}: p (t)"] = part.p_t
        pieces[f"{TITLES[name]}: p (W)"] = part.p_wilcoxon
        pieces[f"{TITLES[name]}: verdict"] = part.verdict
    wide: pd.DataFrame = pd.DataFrame(pieces)
    return wide


def _budgets(table: pd.DataFrame) -> pd.DataFrame:
    """Win / tie / loss against the reference in a column per set of cases and budget."""
    counts = table[["win", "tie", "loss"]].apply(counts_text, axis=1)
    wide = counts.unstack(["cases", "budget"])
    wide.columns = [f"{cases}, {budget} trials" for cases, budget in wide.columns]
    named: pd.DataFrame = wide.rename(index=TITLES)
    return named


def _facts(results: Results) -> str:
    protocol = results.protocol
    sets = len({case.data for case in protocol.cases if case.name in results.manifest["cases"]})
    return (
        f"{len(results.cases)} cases on {sets} data sets; every tuned optimizer with "
        f"{protocol.main} trials, then {protocol.seeds} fresh seeds. Data order and starting point "
        "are common to all optimizers with one seed."
    )


def _skipped(results: Results) -> str:
    skipped = results.manifest["skipped"]
    if not skipped:
        return ""
    return "Skipped, and not counted: " + " ".join(f"{k}: {v}" for k, v in skipped.items())


def _interactive(results: Results) -> str:
    """All curves of all cases in one figure, with a menu of the cases."""
    figure = go.Figure()
    owners = []
    for case in results.cases:
        for name, curve in mean_curves(results, case).items():
            style = STYLES[name]
            figure.add_trace(
                go.Scatter(
                    x=curve.index.tolist(),
                    y=[float(f"{value:.4g}") for value in curve],
                    name=TITLES[name],
                    visible=case == results.cases[0],
                    line={
                        "color": style.colour,
                        "width": style.width,
                        "dash": "dash" if style.dashed else "solid",
                    },
                )
            )
            owners.append(case)
    buttons = [
        {"label": case, "method": "update", "args": [{"visible": [o == case for o in owners]}]}
        for case in results.cases
    ]
    figure.update_layout(
        template="plotly_white",
        height=620,
        updatemenus=[{"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.12}],
        xaxis_title="passes over the data",
        yaxis={"title": "F − F*", "type": "log", "exponentformat": "power"},
        hovermode="x unified",
    )
    html: str = figure.to_html(full_html=False, include_plotlyjs="cdn")
    return html


def _html(table: pd.DataFrame) -> str:
    index = [str(name) for name in table.index.names]
    columns = ["" if name == "None" else name for name in index] + [str(c) for c in table.columns]
    rows = [
        [
            *(
                TITLES.get(str(key), str(key))
                for key in (keys if isinstance(keys, tuple) else (keys,))
            ),
            *(_cell(value) for value in row),
        ]
        for keys, row in zip(table.index, table.to_numpy(object), strict=True)
    ]
    return html_table(columns, rows)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.3g}"
    return str(value)
