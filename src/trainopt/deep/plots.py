"""The pictures of the deep study, as PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.deep.tables import TITLES, Results
from trainopt.deep.tasks import TASKS
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.plots import RC

# Colour, and whether dashed: an optimizer on Ĝ has the colour of the plain one, dashed.
STYLES: dict[str, tuple[str, str]] = {
    "diagonal": ("#D55E00", "-"),
    "rankone": ("#E69F00", "-"),
    "alpha0": ("#882255", "-"),
    "adamw": ("#0072B2", "-"),
    "adamw-diagonal": ("#0072B2", "--"),
    "adamw-rankone": ("#0072B2", "-."),
    "adamw-alpha0": ("#0072B2", ":"),
    "lion": ("#009E73", "-"),
    "lion-diagonal": ("#009E73", "--"),
    "lion-alpha0": ("#009E73", ":"),
    "muon": ("#333333", "-"),
    "muon-diagonal": ("#333333", "--"),
    "muon-alpha0": ("#333333", ":"),
    "momentum": ("#999999", "-"),
    "schedulefree-adamw": ("#56B4E9", "-"),
    "adafactor": ("#CC79A7", "-"),
}
_VERDICTS = {"win": "#009E73", "tie": "#888888", "loss": "#D55E00"}


def save_pictures(results: Results, out: Path) -> dict[str, str]:
    """Draw everything; return the caption of each file."""
    captions = {}
    with mpl.rc_context(RC):
        for task in results.tasks:
            name = f"curves-{task}.png"
            _curves(results, task).savefig(out / name)
            captions[name] = (
                f"{TASKS[task].title}: validation loss against steps and seconds of training, mean "
                "over seeds and their range; and how well what each takes for the full gradient "
                "points along it (∇F on rows kept for that; g: the mini-batch gradient alone). "
                "Dashed and dotted: on a learned estimate in place of g."
            )
        for reference in (results.protocol.reference, results.protocol.baseline):
            table = results.against(reference)
            if len(table):
                name = f"forest-{reference}.png"
                _forest(table, results.tasks).savefig(out / name)
                captions[name] = (
                    f"Difference of the final validation loss to {TITLES[reference]}, paired by "
                    "seed, with its interval: left of 0 is better. Green wins, orange losses after "
                    "Holm's correction; a cross is a diverged run."
                )
        if len(results.behind):
            _forest(results.behind, results.tasks).savefig(out / "forest-estimated.png")
            captions["forest-estimated.png"] = (
                "The same for optimizers on Ĝ, each against itself on g: what handing over the "
                "learned estimate changes."
            )
    return captions


def _curves(results: Results, task: str) -> Figure:
    runs = results.runs[results.runs.task == task]
    figure = Figure(figsize=(15.0, 5.4), dpi=100, layout="constrained")
    by_step, by_second, aligned = figure.subplots(1, 3)
    names = [name for name in OPTIMIZERS if name in set(runs.optimizer)]
    for name in names:
        colour, line = STYLES[name]
        style: Any = {"color": colour, "linestyle": line, "linewidth": 1.6}
        mine = runs[runs.optimizer == name]
        finite = mine.assign(val_loss=mine.val_loss.replace(math.inf, np.nan))
        mean = finite.groupby("step")[["val_loss", "seconds", "estimator_cos"]].mean()
        spread = finite.groupby("step").val_loss.agg(["min", "max"])
        by_step.plot(mean.index, mean.val_loss, label=TITLES[name], **style)
        by_step.fill_between(mean.index, spread["min"], spread["max"], color=colour, alpha=0.1)
        by_second.plot(mean.seconds, mean.val_loss, **style)
        cosines = mean.estimator_cos.dropna()
        aligned.plot(cosines.index, cosines, marker="o", markersize=3, **style)
    noise = runs.groupby("step").gradient_cos.mean().dropna()
    aligned.plot(noise.index, noise, color="#000000", linewidth=3, alpha=0.25, label="g (mean)")
    ends = runs[runs.step == runs.step.max()].val_loss
    first = runs[runs.step == runs.step[runs.step > 0].min()].val_loss
    low, high = ends.min(), min(first.quantile(0.9), runs[runs.step == 0].val_loss.mean())
    for axes in (by_step, by_second):  # from the first mark on: what comes before all have alike
        axes.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
        axes.set_ylabel("validation loss")
    tokens = results.manifest["tasks"][task]["tokens"]
    row = runs[runs.step == runs.step.max()].iloc[0]
    unit, count = ("tokens", "tokens") if tokens > 1 else ("examples", "examples")
    by_step.set_xlabel(f"steps of {row[count] / row.step:.0f} {unit}")
    by_second.set_xlabel("seconds of training")
    aligned.set(xlabel="steps", ylabel="cos(Ĝ, ∇F)")
    handles, labels = by_step.get_legend_handles_labels()
    more, more_labels = aligned.get_legend_handles_labels()
    figure.legend(handles + more, labels + more_labels, loc="outside lower center", ncols=7)
    figure.suptitle(TASKS[task].title)
    return figure


def _forest(comparison: pd.DataFrame, tasks: list[str]) -> Figure:
    names = [name for name in OPTIMIZERS if name in set(comparison.optimizer)][::-1]
    columns = min(3, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(
        figsize=(5.0 * columns, rows * (1.3 + 0.28 * len(names))), dpi=100, layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for axes in grid[len(tasks) :]:
        axes.set_visible(False)
    for axes, task in zip(grid, tasks, strict=False):
        table = comparison[comparison.task == task].set_index("optimizer").reindex(names)
        finite = table.difference.replace([math.inf, -math.inf], np.nan)
        edge = 1.3 * max(float(finite.abs().max()), 1e-3) if finite.notna().any() else 1.0
        for at, row in enumerate(table.to_dict("records")):
            colour = _VERDICTS.get(str(row["verdict"]), "#888888")
            axes.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=2)
            marker = "o" if math.isfinite(row["difference"]) else "x"
            shown = float(np.clip(row["difference"], -0.97 * edge, 0.97 * edge))
            axes.plot(shown, at, marker, color=colour, markersize=5)
        axes.axvline(0, color="#333333", linewidth=1)
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlim=(-edge, edge), title=TASKS[task].title, xlabel="difference of the loss")
        axes.set_yticks(range(len(names)), [TITLES[name] for name in names], fontsize=9)
    return figure
