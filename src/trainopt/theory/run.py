"""`trainopt study theory`: run what is missing, fit the slopes, draw, and say what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from trainopt.harness.curves import STYLES
from trainopt.harness.folder import write_manifest, write_whole, writing
from trainopt.harness.optimizers import OPTIMIZERS as ENTRIES
from trainopt.harness.plots import RC
from trainopt.harness.terminal import say, show
from trainopt.theory import rates


def run_theory(steps: int, seeds: int, out: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """Measure the curves that `out` lacks, then write its tables and pictures.

    Args:
        steps: of each run.
        seeds: runs of each optimizer and function.
        out: folder for curves.parquet, slopes.csv, sweep.csv, run.json, rates.png and sweep.png.
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
    _draw(found, slopes, sweep, out)
    return slopes


def _curves(steps: int, seeds: int, out: Path, say: Callable[[str], None]) -> pd.DataFrame:
    path = out / "curves.parquet"
    found: pd.DataFrame = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    for name, make in rates.FUNCTIONS.items():
        for optimizer in rates.OPTIMIZERS:
            there = (
                not found.empty
                and ((found.function == name) & (found.optimizer == optimizer)).any()
            )
            if there:
                continue
            say(f"{name}: {optimizer}")
            new = rates.curves(make(), optimizer, steps, seeds)
            new = new.assign(function=name, optimizer=optimizer)
            found = pd.concat([found, new], ignore_index=True)
            write_whole(path, found.to_parquet(index=False, compression="zstd"))
    return found


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


def _draw(found: pd.DataFrame, slopes: pd.DataFrame, sweep: pd.DataFrame, out: Path) -> None:
    with mpl.rc_context(RC):
        _draw_rates(found, slopes, out / "rates.png")
        _draw_sweep(sweep, out / "sweep.png")


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Fit the slopes and draw the pictures of a folder again, and print the table."""
    found = pd.read_parquet(folder / "curves.parquet")
    slopes = pd.DataFrame(_slopes(found))
    slopes.to_csv(folder / "slopes.csv", index=False, float_format="%.6g")
    _draw(found, slopes, pd.read_csv(folder / "sweep.csv"), folder)
    show_slopes(slopes, folder)


def show_slopes(slopes: pd.DataFrame, folder: Path) -> None:
    """Print the table of slopes."""
    table = Table("function", "optimizer", "quantity", "slope", "95 % interval", "at the end")
    for row in slopes.to_dict("records"):
        table.add_row(
            row["function"],
            ENTRIES[row["optimizer"]].title,
            rates.ERRORS[row["quantity"]],
            f"{row['slope']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['last']:.2e}",
        )
    show(table)
    say(f"\nPictures and tables: {folder}")


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
                style = STYLES[optimizer]
                axes.loglog(
                    mean.index,
                    mean,
                    color=style.colour,
                    linewidth=style.width,
                    linestyle="--" if style.dashed else "-",
                    label=f"{ENTRIES[optimizer].title}: slope {chosen.slope:.2f} "
                    f"[{chosen.low:.2f}, {chosen.high:.2f}]",
                )
            reference = part[part.optimizer == "alpha0"].groupby("t")[column].mean()
            late = reference[reference.index >= reference.index.max() / 100]
            axes.loglog(
                late.index,
                2 * late.iloc[-1] * late.index.max() / late.index,
                color="#999999",
                linestyle=":",
                label="1/t",
            )
            axes.set(xlabel="step t", ylabel=label, title=name)
            axes.legend(fontsize=8)
    figure.savefig(path)


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
        axes.set(xlabel=size, ylabel="largest ‖Ĝ‖ of the run", title=ENTRIES[optimizer].title)
        axes.set_ylim(1, 1e6)
        axes.legend(fontsize=9)
    figure.savefig(path)
