"""`trainopt study theory`: run what is missing, fit the slopes, draw, and say what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from trainopt.harness.folder import read_manifest, write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.page import Report, Section, write_page
from trainopt.harness.palette import TITLES
from trainopt.harness.plots import RC, line, save
from trainopt.harness.tables import interval, number
from trainopt.harness.terminal import show_report
from trainopt.theory import rates


def run_theory(steps: int, seeds: int, out: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """Measure the curves that `out` lacks, then write and print its report.

    Args:
        steps: of each run.
        seeds: runs of each optimizer and function.
        out: folder for curves.parquet, slopes.csv, sweep.csv, run.json and the report.
        say: called with a line about each piece of work.

    Returns:
        The slopes: function, optimizer, quantity, slope, low, high, last (the mean at the end).

    Raises:
        InputError: `out` holds something else, or other steps or seeds, or is in use.
    """
    identity = {"steps": steps, "seeds": seeds}
    with writing(out, "study theory", identity) as kept:
        manifest = {**identity, "functions": {}, **kept}
        write_manifest(out, manifest)
        return _run(steps, seeds, out, manifest, say)


def _run(
    steps: int, seeds: int, out: Path, manifest: dict[str, Any], say: Callable[[str], None]
) -> pd.DataFrame:
    found = _curves(steps, seeds, out, say)
    slopes: pd.DataFrame = pd.DataFrame(_slopes(found))
    say("sweep of alpha")
    sweep: pd.DataFrame = pd.concat(
        [
            rates.alpha_sweep(optimizer, lr, steps=min(5000, steps), seeds=seeds)
            for optimizer in ("full", "diagonal")
            for lr in rates.SWEEP_LR
        ],
        ignore_index=True,
    )
    slopes.to_csv(out / "slopes.csv", index=False, float_format="%.6g")
    sweep.to_csv(out / "sweep.csv", index=False, float_format="%.6g")
    write_manifest(out, manifest | {"functions": _functions(found, steps)})
    draw_report(found, slopes, sweep, out)
    return slopes


def _curves(steps: int, seeds: int, out: Path, say: Callable[[str], None]) -> pd.DataFrame:
    table = Growing(out / "curves.parquet", ("function", "optimizer"))
    for name, make in rates.FUNCTIONS.items():
        for optimizer in rates.OPTIMIZERS:
            if (name, optimizer) in table.there:
                continue
            say(f"{name}: {optimizer}")
            new = rates.curves(make(), optimizer, steps, seeds)
            table.add(new.assign(function=name, optimizer=optimizer))
    return table.rows


def _slopes(found: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for (function, optimizer), table in found.groupby(["function", "optimizer"], sort=False):
        for column in rates.ERRORS:
            slope, low, high = rates.slope(table, column)
            last = table.loc[table.t == table.t.max(), column].mean()
            rows.append(
                {"function": function, "optimizer": optimizer, "quantity": column}
                | {"slope": slope, "low": low, "high": high, "last": last}
            )
    return rows


def _functions(found: pd.DataFrame, steps: int) -> dict[str, Any]:
    """What is known of each function: its constants, the theorem's schedules, the conditions."""
    functions = {}
    for name, make in rates.FUNCTIONS.items():
        function = make()
        schedules = rates.theorem_schedules(function, steps)
        functions[name] = {
            "smoothness": function.smoothness,
            "convexity": function.convexity,
            "schedules": {rate: repr(getattr(schedules, rate)) for rate in ("lr", "alpha", "beta")},
            "conditions": {
                str(optimizer): rates.conditions(function, table, steps)
                for optimizer, table in found[found.function == name].groupby("optimizer")
            },
        }
    return functions


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Fit the slopes of a folder again, and draw and print its report."""
    found = pd.read_parquet(folder / "curves.parquet")
    slopes = pd.DataFrame(_slopes(found))
    slopes.to_csv(folder / "slopes.csv", index=False, float_format="%.6g")
    draw_report(found, slopes, pd.read_csv(folder / "sweep.csv"), folder)


def draw_report(found: pd.DataFrame, slopes: pd.DataFrame, sweep: pd.DataFrame, out: Path) -> None:
    """Write report.html and its pictures, and print what they say."""
    with mpl.rc_context(RC):
        _draw_rates(found, slopes, out / "rates.png")
        _draw_sweep(sweep, out / "sweep.png")
    manifest = read_manifest(out) or {}
    columns = ["function", "optimizer", "quantity", "slope", "95 % interval", "at the end"]
    rows = [
        [
            row["function"],
            TITLES[row["optimizer"]],
            rates.ERRORS[row["quantity"]],
            f"{row['slope']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['last']:.2e}",
        ]
        for row in slopes.to_dict("records")
    ]
    pictures = {
        "rates.png": "Errors against steps, with the schedules of the theorem: the mean over runs, "
        "its slope at the end, and 1/t for comparison.",
        "sweep.png": "Where boundedness ends: the largest estimate of a run against α times the "
        "size of the solution, for several learning rates.",
    }
    facts = f"{manifest['steps']:,} steps, {manifest['seeds']} runs of each optimizer and function."
    section = Section(
        "How errors fall with the steps", ("A slope of −1 is 1/t.",),
        {"Slopes of log error against log t": (columns, rows)}, pictures,
    )  # fmt: skip
    report = Report("Theory, measured", facts, verdict(slopes), [section], manifest)
    write_page(report, out)
    show_report(report, out)


def verdict(slopes: pd.DataFrame) -> list[str]:
    """Whether the errors of the Trainable Optimizers fall as fast as the theorem says."""
    learned = slopes[slopes.optimizer.isin(["full", "diagonal", "rankone"])]
    reached = int((learned.low <= -1).sum())
    return [
        f"{reached} of {len(learned)} errors of the Trainable Optimizers fall as 1/t or faster, as "
        "the theorem says, within the 95 % interval of their slopes; the slopes are "
        f"{learned.slope.min():.2f} to {learned.slope.max():.2f}."
    ]


def _draw_rates(found: pd.DataFrame, slopes: pd.DataFrame, path: Path) -> None:
    names = list(rates.FUNCTIONS)
    figure = Figure(figsize=(6.4 * len(names), 9.0), dpi=140, layout="constrained")
    grid = figure.subplots(len(rates.ERRORS), len(names), squeeze=False)
    for row, (column, label) in zip(grid, rates.ERRORS.items(), strict=True):
        for axes, name in zip(row, names, strict=True):
            part = found[found.function == name]
            for optimizer in rates.OPTIMIZERS:
                mean = part[part.optimizer == optimizer].groupby("t")[column].mean()
                chosen = slopes[
                    (slopes.function == name)
                    & (slopes.optimizer == optimizer)
                    & (slopes.quantity == column)
                ].iloc[0]
                fitted = f"{TITLES[optimizer]}: slope {number(chosen.slope, '.2f')}"
                fitted += interval(chosen.low, chosen.high, ".2f")
                axes.loglog(mean.index, mean, **line(optimizer, len(mean), fitted))
            reference = part[part.optimizer == "alpha0"].groupby("t")[column].mean()
            late = reference[reference.index >= reference.index.max() / 100]
            axes.loglog(
                late.index,
                2 * late.iloc[-1] * late.index.max() / late.index,
                color="#6E6E6E",
                linestyle=":",
                label="1/t",
            )
            axes.set(xlabel="step t", ylabel=label, title=name)
            axes.legend(fontsize=8)
    save(figure, path)


def _draw_sweep(sweep: pd.DataFrame, path: Path) -> None:
    optimizers = list(sweep.optimizer.unique())
    figure = Figure(figsize=(6.4 * len(optimizers), 4.6), dpi=140, layout="constrained")
    for axes, optimizer in zip(figure.subplots(1, len(optimizers)), optimizers, strict=True):
        for lr, part in sweep[sweep.optimizer == optimizer].groupby("lr"):
            kept = part[part.estimate < 1e6]
            label = f"γ = {lr:g}" + (" (weights held)" if lr == 0 else "")
            axes.semilogy(kept.relative, kept.estimate, marker=".", label=label)
        axes.axvline(2 - rates.SWEEP_BETA, color="#666666", linestyle=":", label="factor = 1")
        size = "α ‖w*‖²" if optimizer == "full" else "α max wᵢ*²"
        axes.set(xlabel=size, ylabel="largest ‖Ĝ‖ of the run", title=TITLES[optimizer])
        axes.set_ylim(1, 1e6)
        axes.legend(fontsize=9)
    save(figure, path)
