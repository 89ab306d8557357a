"""What the scientific study found: paired differences, counts of verdicts, and sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from trainopt.harness.folder import read_manifest, write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import T_ALONE, compared, counts_text
from trainopt.scientific.protocol import Protocol, read_protocol

OPTIMIZERS = ("secant", "adam-bfgs", "adam-lbfgs", "adam", "adam-chunks", "adam-base")
MEASURES = ("loss", "error")
AXES = ("passes", "seconds")
"""What two runs have in common where they are compared: the passes of the protocol; the seconds
that the quicker of the two needed for them."""


def write_scientific(protocol: Protocol, out: Path) -> str:
    """Write comparison.csv, ends.csv, summary.md and pictures of what has been run.

    Returns:
        summary.md.
    """
    from trainopt.scientific.plots import save_pictures

    runs = final_runs(protocol, pd.read_parquet(out / "runs.parquet"))
    for name, table in {
        "comparison": comparison(protocol, runs),
        "ends": table_of_ends(protocol, runs),
    }.items():
        text = table.to_csv(index=False, float_format="%.5g")
        write_whole(out / f"{name}.csv", text.encode())
    text = summary(out)
    write_whole(out / "summary.md", text.encode())
    save_pictures(runs, out)
    return text


def write_again(out: Path) -> None:
    """The same by the committed protocol, quick or not."""
    kept = (read_manifest(out) or {}).get("protocol")
    quick = read_protocol(quick=True)
    write_scientific(quick if quick.digest == kept else read_protocol(), out)


def final_runs(protocol: Protocol, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that count, without those that chose among settings."""
    table: pd.DataFrame = runs[runs.seed != protocol.tuning_seed]
    return table


def value_at(run: pd.DataFrame, measure: str, axis: str, place: float) -> float:
    """log₁₀ of a measure where a run had taken so many passes or seconds, between its marks.

    Args:
        run: its rows, in order.
        measure: the column.
        axis: the column that `place` is of.
        place: passes or seconds.
    """
    with np.errstate(invalid="ignore"):
        found = float(np.interp(place, run[axis], np.log10(run[measure])))
    return np.inf if np.isnan(found) else found  # between a number and infinity


def comparison(protocol: Protocol, runs: pd.DataFrame) -> pd.DataFrame:
    """SecantTO against every other optimizer, problem by problem.

    Returns:
        Columns: measure, axis, against, and those of `harness.statistics.compared`: difference is
        of log₁₀ of the measure, in decades, and negative is better.
    """
    by_run = dict(iter(runs.groupby(["optimizer", "problem", "seed"])))
    pieces = []
    for rival in (name for name in OPTIMIZERS if name != "secant" and name in set(runs.optimizer)):
        pairs = [
            (problem, seed)
            for name, problem, seed in by_run
            if name == rival and ("secant", problem, seed) in by_run
        ]
        for measure in MEASURES:
            for axis in AXES:
                rows = []
                for problem, seed in pairs:
                    both = [by_run[name, problem, seed] for name in ("secant", rival)]
                    place = min(float(run[axis].iloc[-1]) for run in both)
                    for name, run in zip(("secant", rival), both, strict=True):
                        value = value_at(run, measure, axis, place)
                        rows.append((problem, name, seed, value))
                table = pd.DataFrame(rows, columns=["problem", "optimizer", "seed", "log"])
                level = protocol.level
                found = compared(table, rival, level, T_ALONE, value="log")
                found = found.drop(columns=["optimizer", "rho"], errors="ignore")
                pieces.append(found.assign(measure=measure, axis=axis, against=rival))
    result = pd.concat(pieces, ignore_index=True).rename(columns={"p_t": "p"})
    result["held_out"] = result.problem.map(protocol.problems)
    leading = ["measure", "axis", "against", "problem", "held_out"]
    ordered: pd.DataFrame = result[leading + [c for c in result if c not in leading]]
    return ordered


def table_of_ends(protocol: Protocol, runs: pd.DataFrame) -> pd.DataFrame:
    """What every optimizer had after the protocol's passes, over its seeds.

    Returns:
        Columns: problem, optimizer, seeds, loss and error (medians), worst_loss and worst_error (of
        all seeds), seconds (the median of a run) and settings (JSON).
    """
    rows = []
    for (problem, optimizer), group in runs.groupby(["problem", "optimizer"], sort=False):
        by_seed = [run for _, run in group.groupby("seed")]
        found = {
            measure: [10 ** value_at(run, measure, "passes", protocol.passes) for run in by_seed]
            for measure in MEASURES
        }
        rows.append(
            {"problem": problem, "optimizer": optimizer, "seeds": len(by_seed)}
            | {measure: float(np.median(values)) for measure, values in found.items()}
            | {f"worst_{measure}": max(values) for measure, values in found.items()}
            | {"seconds": float(np.median([run.seconds.iloc[-1] for run in by_seed]))}
            | {"settings": group.settings.iloc[0]}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def summary(folder: Path) -> str:
    """The verdict and the tables of docs/scientific.md, from comparison.csv and ends.csv."""
    compared_, ended = (pd.read_csv(folder / f"{name}.csv") for name in ("comparison", "ends"))
    held_out = compared_[compared_.held_out]
    tables = [against(compared_, "all problems")]
    tables += [against(held_out, "problems held out")] if len(held_out) else []
    tables += [by_problem(ended, measure) for measure in (*MEASURES, "seconds")]
    return "\n\n".join(["\n".join(headline(compared_)), *map(markdown, tables)]) + "\n"


def headline(table: pd.DataFrame) -> list[str]:
    """What was found, in sentences whose numbers come from the comparison."""
    sentences = []
    for rival in dict.fromkeys(table.against):
        parts = []
        for axis in AXES:
            words = []
            for measure in MEASURES:
                part = _part(table, rival, measure, axis)
                words.append(f"{counts_text(_counts(part))} by {measure}")
            parts.append(f"at equal {axis} {' and '.join(words)}")
        sentences.append(
            f"- SecantTO against {TITLES[rival]}, wins / ties / losses: {'; '.join(parts)}."
        )
    return sentences


def against(table: pd.DataFrame, which: str) -> Cells:
    """Wins / ties / losses of SecantTO, and the median over problems of the difference.

    Args:
        table: the comparisons of some problems.
        which: in words.
    """
    kinds = [(measure, axis) for axis in AXES for measure in MEASURES]
    rows = []
    for rival in dict.fromkeys(table.against):
        cells = [TITLES[rival]]
        for measure, axis in kinds:
            part = _part(table, rival, measure, axis)
            cells += [counts_text(_counts(part)), _number(part.difference.median(), "+.2f")]
        rows.append(cells)
    columns = [f"{which}, {table.problem.nunique()}: against"]
    for measure, axis in kinds:
        columns += [f"{measure}, equal {axis}", "decades"]
    return columns, rows


def by_problem(table: pd.DataFrame, measure: str) -> Cells:
    """A measure at the end of the passes: the median over seeds, and SecantTO's worst seed."""
    names = [name for name in OPTIMIZERS if name in set(table.optimizer)]
    found = table.set_index(["problem", "optimizer"])
    form = ".1f" if measure == "seconds" else ".1e"
    rows = []
    for problem in dict.fromkeys(table.problem):
        cells = [str(problem)]
        for name in names:
            there = (problem, name) in found.index
            cells.append(_number(found[measure].get((problem, name)), form) if there else "–")
        if measure != "seconds":
            worst = found[f"worst_{measure}"].get((problem, "secant"))
            cells.insert(2, "–" if worst is None else _number(worst, form))
        rows.append(cells)
    columns = [measure, *(TITLES[name] for name in names)]
    if measure != "seconds":
        columns.insert(2, "its worst seed")
    return columns, rows


def _part(table: pd.DataFrame, rival: str, measure: str, axis: str) -> pd.DataFrame:
    chosen = (table.against == rival) & (table.measure == measure) & (table.axis == axis)
    part: pd.DataFrame = table[chosen]
    return part


def _counts(part: pd.DataFrame) -> pd.Series[float]:
    counts = part.verdict.value_counts().reindex(["win", "tie", "loss"], fill_value=0)
    return counts.astype(float)


def _number(value: float, form: str) -> str:
    return f"{value:{form}}".replace("-", "−")
