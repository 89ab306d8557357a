"""What the SecantTO study found, by the measures and tests of the convex study."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from trainopt.convex.documents import versus
from trainopt.convex.protocol import read_protocol
from trainopt.convex.secant import CHUNKED, SECANTS, VARIANTS
from trainopt.convex.secant_runs import STARTS, UNTUNED
from trainopt.convex.secant_seconds import fastest
from trainopt.convex.tables import Results
from trainopt.harness.folder import read_manifest, write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.page import Report, Section, write_page
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import counted, counts_text
from trainopt.harness.terminal import show_report

# The columns of the table of cases.
_PEERS = ("adam", "schedulefree-sgd", "schedulefree-adamw", "momentum", "lbfgs", "saga")
_TITLES = TITLES | {variant.name: variant.title for variant in VARIANTS}


def write_secant(convex: Results, out: Path) -> str:
    """Write the CSV tables and summary.md from what has been run; return the last."""
    runs = pd.read_parquet(out / "runs.parquet")
    finals = all_finals(convex, runs)
    comparisons(finals, convex.protocol.level).to_csv(
        out / "comparison.csv", index=False, float_format="%.5g"
    )
    by_case(finals, convex.cases).to_csv(out / "problems.csv", index=False, float_format="%.5g")
    seconds = pd.read_parquet(out / "seconds.parquet")
    seconds.to_csv(out / "seconds.csv", index=False, float_format="%.4g")
    parts = pd.read_parquet(out / "ablations.parquet")
    ablated(parts).to_csv(out / "ablations.csv", index=False, float_format="%.5g")
    text = summary(out)
    write_whole(out / "summary.md", text.encode())
    return text


def all_finals(convex: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """`Results.finals` of the convex study together with what was run here."""
    others = convex.runs[~convex.runs.optimizer.isin(list(STARTS))]  # SecantTO itself is in both
    here = runs.assign(budget=convex.protocol.main)
    joined = pd.concat([others, here], ignore_index=True)
    return replace(convex, runs=joined).finals


def comparisons(finals: pd.DataFrame, level: float) -> pd.DataFrame:
    """Wins, ties and losses over the cases that both have.

    SecantTO against all others; a tuned optimizer on fixed chunks against itself on random order.

    Returns:
        Columns: optimizer, reference, cases, win, tie, loss, and decades, the median over cases of
        the mean difference of log₁₀(F − F*): negative is better than the reference.
    """
    there = list(dict.fromkeys(finals.optimizer))
    secants = [variant.name for variant in SECANTS]
    pairs = [(name, other) for name in secants for other in there if other not in secants]
    pairs += [(variant.name, variant.tuned) for variant in CHUNKED if variant.tuned]
    rows = []
    for name, reference in pairs:
        if name not in there:
            continue
        verdicts = versus(finals, name, reference, level)
        counts = counted(verdicts).loc[name]
        rows.append(
            {"optimizer": name, "reference": reference, "problems": len(verdicts)}
            | {kind: int(counts[kind]) for kind in ("win", "tie", "loss")}
            | {"decades": float(counts["difference"])}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def by_case(finals: pd.DataFrame, cases: list[str]) -> pd.DataFrame:
    """log₁₀(F − F*) at the end by seed: columns problem, optimizer, median, worst."""
    groups = finals.groupby(["problem", "optimizer"], sort=False).final
    table = pd.DataFrame({"median": groups.median(), "worst": groups.max()})
    ordered: pd.DataFrame = pd.concat([table.loc[[case]] for case in cases]).reset_index()
    return ordered


def summary(folder: Path) -> str:
    """The tables of docs/secant.md in Markdown, from the CSV tables."""
    counts, cases, seconds, parts = (
        pd.read_csv(folder / f"{name}.csv")
        for name in ("comparison", "problems", "seconds", "ablations")
    )
    cells = (
        against(counts), order(counts), ends(cases), clocked(seconds), without(parts)
    )  # fmt: skip
    return "\n\n".join(map(markdown, cells)) + "\n"


def against(counts: pd.DataFrame) -> Cells:
    """SecantTO against every other optimizer: wins / ties / losses and decades."""
    there = set(counts.optimizer)
    secants = [variant for variant in SECANTS if variant.name in there]
    main = counts[counts.optimizer == secants[0].name].sort_values("decades")
    rows = [
        [
            _TITLES[reference],
            *(cell for each in secants for cell in _verdict(counts, each.name, reference)),
        ]
        for reference in main.reference
    ]
    return ["against", *(cell for each in secants for cell in (each.title, "decades"))], rows


def order(counts: pd.DataFrame) -> Cells:
    """What the order of the rows alone does for a tuned optimizer."""
    there = set(counts.optimizer)
    rows = [
        [_TITLES[variant.tuned], *_verdict(counts, variant.name, variant.tuned)]
        for variant in CHUNKED
        if variant.tuned and variant.name in there
    ]
    return ["fixed chunks against random order", "wins / ties / losses", "decades"], rows


def ends(cases: pd.DataFrame) -> Cells:
    """Where every case ended: the median over seeds, and SecantTO's worst seed."""
    found = {(row["problem"], row["optimizer"]): row for row in cases.to_dict("records")}
    there = set(cases.optimizer)
    columns: list[tuple[str, str, str]] = []
    for variant in SECANTS:
        if variant.name in there:
            columns.append((variant.title, variant.name, "median"))
            columns.append(("worst", variant.name, "worst"))
    columns += [(TITLES[name], name, "median") for name in _PEERS]
    rows = []
    for case in dict.fromkeys(cases.problem):
        ran = (found.get((case, name), {}).get(value) for _, name, value in columns)
        rows.append([case, *("–" if end is None else _minus(f"{end:.1f}") for end in ran)])
    return ["problem", *(title for title, _, _ in columns)], rows


def clocked(seconds: pd.DataFrame) -> Cells:
    """Seconds to the target by case: SecantTO, its peers, and the fastest tuned optimizer.

    The last row counts the cases where SecantTO is ahead.
    """
    table = seconds.pivot_table(index="problem", columns="optimizer", values="seconds", sort=False)
    own, tuned = table[UNTUNED], fastest(table)
    rows = []
    for case in table.index:
        name, best = tuned.loc[case]
        others = [_seconds(table.loc[case, peer]) for peer in _PEERS]
        rows.append([case, _seconds(own[case]), TITLES.get(name, "–"), _seconds(best), *others])
    counts = [
        f"{(own < other).sum()} of {other.notna().sum()}"
        for other in (tuned.seconds, *(table[peer] for peer in _PEERS))
    ]
    titles = (TITLES[name] for name in _PEERS)
    return (
        ["problem", TITLES[UNTUNED], "fastest of all tuned", "its seconds", *titles],
        [*rows, ["SecantTO is ahead on", "", "", *counts]],
    )


def ablated(parts: pd.DataFrame) -> pd.DataFrame:
    """The ablations' median over seeds: columns variant and one for each case."""
    table = parts.pivot_table(
        index="variant", columns="problem", values="final", aggfunc="median", sort=False
    )
    ordered: pd.DataFrame = table.reset_index()
    return ordered


def without(parts: pd.DataFrame) -> Cells:
    """The ablations, a row for each, from `ablated`."""
    columns, *rows = [list(parts.columns), *parts.to_numpy(object).tolist()]
    cells = [[row[0], *(_minus(f"{value:.1f}") for value in row[1:])] for row in rows]
    return ["SecantTO with", *columns[1:]], cells


def _seconds(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "–"


def _verdict(counts: pd.DataFrame, name: str, reference: str) -> tuple[str, str]:
    rows = counts[(counts.optimizer == name) & (counts.reference == reference)]
    if rows.empty:
        return "–", "–"
    return counts_text(rows.iloc[0]), _minus(f"{rows.iloc[0].decades:+.2f}")


def _minus(number: str) -> str:
    return number.replace("-", "−")


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Write the tables of a folder again, from the convex study beside it, and its report."""
    convex = folder.resolve().parent / "convex"
    draw_report(Results.load(convex, read_protocol(protocol)), folder)


def draw_report(convex: Results, folder: Path) -> None:
    """Write the tables and report.html, and print what they say."""
    write_secant(convex, folder)
    counts = pd.read_csv(folder / "comparison.csv")
    cases = pd.read_csv(folder / "problems.csv")
    sections = [
        Section(
            "Against every other optimizer",
            (
                "Wins / ties / losses over the cases; decades: the median difference of "
                "log₁₀(F − F*), negative is better.",
            ),
            {"SecantTO against": against(counts)},
        ),
        Section("What the order of the rows does", tables={"Fixed chunks": order(counts)}),
        Section(
            "Where every case ended",
            ("log₁₀(F − F*): the median over seeds, and SecantTO's worst seed.",),
            {"Ends": ends(cases)},
        ),
    ]
    report = Report(
        "SecantTO on the convex cases",
        f"{cases.problem.nunique()} cases; the others are tuned, SecantTO is not.",
        verdict(counts),
        sections,
        read_manifest(folder) or {},
    )
    write_page(report, folder)
    show_report(report, folder)


def verdict(counts: pd.DataFrame) -> list[str]:
    """The first SecantTO against the best of the others."""
    name = next(variant.name for variant in SECANTS if variant.name in set(counts.optimizer))
    rows = counts[counts.optimizer == name]
    better = rows[rows.win > rows.loss]
    first = (
        f"{_TITLES[name]}, untuned, wins more cases than it loses against {len(better)} of the "
        f"{len(rows)} others"
    )
    if len(better) == len(rows):
        return [f"{first}."]
    worse = ", ".join(_TITLES[other] for other in rows[rows.win < rows.loss].reference)
    return [f"{first}; it loses more against {worse}." if worse else f"{first}, and never less."]
