"""`trainopt study advice`: the advice for all problems of the studies, and if it was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from trainopt.advice.candidates import CANDIDATES
from trainopt.advice.decision import Thresholds
from trainopt.advice.measurements import Measurements
from trainopt.advice.measures import Noise, Spectrum
from trainopt.advice.outcomes import CONVEX, DEEP, SCENARIOS, Scenario, convex_runs, outcomes
from trainopt.advice.problems import Built, deep, linear
from trainopt.advice.repeats import Repeats
from trainopt.advice.validation import Judged, judged, leave_one_out, nearest
from trainopt.convex.protocol import read_protocol
from trainopt.deep.protocol import read_protocol as read_deep
from trainopt.harness.folder import read_manifest, write_manifest, write_whole, writing
from trainopt.harness.markdown import Cells, markdown

BUDGET = 100
_VARIANTS = {"diagonal": "diagonal", "rankone": "rank one", "full": "full"}


def run_study(out: Path, results: Path) -> None:
    """Measure what isn't measured yet, one problem after another.

    Args:
        out: folder for run.json and measurements.csv.
        results: holds the folders convex, secant and deep.

    Raises:
        InputError: `out` holds something else.
    """
    identity = {
        "study": "advice",
        "budget": BUDGET,
        "convex_protocol": (read_manifest(results / "convex") or {})["protocol"],
        "deep_protocol": (read_manifest(results / "deep") or {})["protocol"],
    }
    with writing(out, "study advice", identity) as kept:
        write_manifest(out, {**identity, **kept})
        path = out / "measurements.csv"
        rows: list[dict[str, Any]] = []
        if path.exists():
            rows = _records(pd.read_csv(path))
        there = {row["problem"] for row in rows}
        for name in _names(results):
            if name not in there:
                rows.append({"problem": name, **flat(_build(name).measure(BUDGET))})
                write_whole(path, pd.DataFrame(rows).to_csv(index=False).encode())


def _names(results: Path) -> list[str]:
    """The problems of the studies, the lightest first."""
    runs = convex_runs(results).problem.unique()
    tasks = pd.read_csv(results / "deep" / "final.csv").problem.unique()
    return [*(case.name for case in read_protocol().cases if case.name in runs), *tasks]


def _build(name: str) -> Built:
    for case in read_protocol().cases:
        if case.name == name:
            return linear(case.problem(), case.passes, BUDGET)
    (plan,) = read_deep(size="cpu").only([name]).budgets
    return deep(name, None, plan, BUDGET)


# Measurements as a row of a table ------------------------------------------------------------

_PARTS: dict[str, type] = {"repeats": Repeats, "noise": Noise, "spectrum": Spectrum}


def flat(seen: Measurements) -> dict[str, Any]:
    """A row; parts have names such as noise.ratio."""
    row: dict[str, Any] = {}
    for name, value in asdict(seen).items():
        if isinstance(value, dict):
            row |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            row[name] = value
    return row


def unflat(row: dict[str, Any]) -> Measurements:
    """What `flat` made a row of."""
    values: dict[str, Any] = {}
    for each in fields(Measurements):
        inner = {
            key.split(".", 1)[1]: value
            for key, value in row.items()
            if key.startswith(f"{each.name}.")
        }
        if each.name in _PARTS:
            values[each.name] = _PARTS[each.name](**inner)
        elif each.name == "scores":
            values["scores"] = {key: float(value) for key, value in inner.items()}
        else:
            values[each.name] = row[each.name]
    return Measurements(**values)


def read_measurements(out: Path) -> dict[str, Measurements]:
    """What was measured, by problem."""
    table = pd.read_csv(out / "measurements.csv")
    return {row["problem"]: unflat(row) for row in _records(table)}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


# Whether the advice was right -------------------------------------------------------------------


def write_again(out: Path) -> None:
    """`write_study` from the studies whose results are beside it."""
    write_study(out, out.resolve().parent)


def write_study(out: Path, results: Path) -> str:
    """Write confusion.csv, hits.csv, variants.csv and summary.md; return the verdict.

    Every problem's advice comes from thresholds that were fitted on the problems of other families.
    """
    seen = read_measurements(out)
    cases = {
        scenario.name: judged(scenario, outcomes(results, scenario), seen) for scenario in SCENARIOS
    }
    every = [case for group in cases.values() for case in group]
    bounds = leave_one_out(every)
    confusion = pd.DataFrame(
        [_row(case, bounds[case.family], cases[case.scenario.name]) for case in every]
    )
    hits = _hits(confusion, cases)
    variants = _variants(results, seen)
    thresholds = pd.DataFrame([{"family": name, **asdict(found)} for name, found in bounds.items()])
    for name, table in {
        "confusion": confusion,
        "hits": hits,
        "variants": variants,
        "thresholds": thresholds,
    }.items():
        write_whole(out / f"{name}.csv", table.round(4).to_csv(index=False).encode())
    text = "\n\n".join(
        [verdict(hits), markdown(_cells(hits)), markdown(_misses(confusion)), _agreement(variants)]
    )
    write_whole(out / "summary.md", f"{text}\n".encode())
    return text


def _row(case: Judged, bounds: Thresholds, group: Sequence[Judged]) -> dict[str, Any]:
    outcome, scenario = case.outcome, case.scenario
    advised, unfitted = case.advice(bounds), case.advice(Thresholds())
    names = [name for name in (DEEP if outcome.deep else CONVEX) if name not in scenario.excluded]
    others = [
        other
        for other in group
        if other.family != case.family and other.outcome.deep == outcome.deep
    ]
    neighbour = nearest(case, others, names)
    return {
        "scenario": scenario.name,
        "problem": outcome.problem,
        "deep": outcome.deep,
        "best": outcome.best,
        "advised": advised,
        "regret": outcome.of(advised),
        "hit": outcome.hit(advised),
        "by_defaults": unfitted,
        "hit_by_defaults": outcome.hit(unfitted),
        "by_neighbour": neighbour,
        "hit_by_neighbour": outcome.hit(neighbour),
    }


def _hits(confusion: pd.DataFrame, cases: dict[str, list[Judged]]) -> pd.DataFrame:
    """A row for every scenario: problems, and how often each way of choosing was right."""
    rows = []
    for scenario in SCENARIOS:
        for deep_ones in (False, True):
            group = [case for case in cases[scenario.name] if case.outcome.deep == deep_ones]
            if not group:
                continue
            found = confusion[(confusion.scenario == scenario.name) & (confusion.deep == deep_ones)]
            always = {
                name: sum(case.outcome.hit(name) for case in group)
                for name in (DEEP if deep_ones else CONVEX)
                if name not in scenario.excluded
            }
            single = max(always, key=always.__getitem__)
            rows.append(
                {
                    "scenario": scenario.name,
                    "deep": deep_ones,
                    "problems": len(group),
                    "advised": int(found.hit.sum()),
                    "by_defaults": int(found.hit_by_defaults.sum()),
                    "by_neighbour": int(found.hit_by_neighbour.sum()),
                    "best_single": single,
                    "by_single": always[single],
                    "always_secant": always.get("secant"),
                    "always_adamw": always["adamw"],
                }
            )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _kind(row: dict[str, Any]) -> str:
    return "deep tasks" if row["deep"] else "convex cases"


_TITLES = {scenario.name: scenario.title for scenario in SCENARIOS}


def verdict(hits: pd.DataFrame) -> str:
    """The sentence on top."""
    ends = hits[hits.scenario == "all"]
    right, total = int(ends.advised.sum()), int(ends.problems.sum())
    parts = [
        "{advised} of {problems} {kind} (always {title}: {by_single})".format(
            **row, kind=_kind(row), title=CANDIDATES[row["best_single"]].title
        )
        for row in _records(ends)
    ]
    return (
        f"With everything allowed, at the end of the runs, the advice is as good as the best on "
        f"{right} of {total} problems ({right / total:.0%}): {', '.join(parts)}."
    )


def _cells(hits: pd.DataFrame) -> Cells:
    columns = [
        "what may be taken", "problems", "advice", "thresholds as they are", "nearest problem's",
        "best single one", "always it", "always AdamW",
    ]  # fmt: skip
    rows = [
        [
            f"{_TITLES[row['scenario']]}: {_kind(row)}",
            str(row["problems"]),
            str(row["advised"]),
            str(row["by_defaults"]),
            str(row["by_neighbour"]),
            CANDIDATES[row["best_single"]].title,
            str(row["by_single"]),
            str(row["always_adamw"]),
        ]
        for row in _records(hits)
    ]
    return columns, rows


def _misses(confusion: pd.DataFrame) -> Cells:
    """The misses at the end of the runs."""
    ends = confusion[confusion.scenario.isin([s.name for s in SCENARIOS if s.passes is None])]
    rows = [
        [
            _TITLES[row["scenario"]],
            row["problem"],
            CANDIDATES[row["advised"]].title,
            row["best"],
            "not run" if row["regret"] == float("inf") else f"{row['regret']:.2f}",
        ]
        for row in _records(ends[~ends.hit])
    ]
    return ["what may be taken", "missed", "advice", "best", "above the best"], rows


def _variants(results: Path, seen: dict[str, Measurements]) -> pd.DataFrame:
    """What each form of A explains beyond a moving average, and what it gained in the studies."""
    scenario = Scenario("", "")
    rows = []
    for outcome in outcomes(results, scenario):
        scores = seen[outcome.problem].scores
        for name, form in _VARIANTS.items():
            if name in outcome.regret and form in scores:
                rows.append(
                    {
                        "problem": outcome.problem,
                        "deep": outcome.deep,
                        "variant": name,
                        "explained": scores[form] - scores["none"],
                        "above_alpha0": outcome.regret[name] - outcome.regret["alpha0"],
                    }
                )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _agreement(variants: pd.DataFrame) -> str:
    """Does predicting the next gradient predict the variant's success?"""
    sentences = []
    for name, group in variants[~variants.deep].groupby("variant"):
        kept = group.dropna()
        rank = spearmanr(kept.explained, kept.above_alpha0)
        sentences.append(
            f"{CANDIDATES[str(name)].title} {rank.statistic:+.2f} "
            f"(p = {rank.pvalue:.2f}, {len(kept)} cases)"
        )
    return (
        "Rank correlation of what A explains beyond a moving average with the decades that the "
        "variant ends above α = 0 (−1: the more it explains, the more it wins): "
        + ", ".join(sentences)
        + "."
    )
