"""The pictures of the deep study, as PNG."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.deep.tables import Results
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.palette import TITLES, at_most
from trainopt.harness.plots import FOREST_TEXT, RC, Forest, forest, line, save


def save_pictures(results: Results, out: Path) -> dict[str, str]:
    """Draw everything; return the caption of each file."""
    captions = {}
    with mpl.rc_context(RC):
        for task in results.tasks:
            name = f"curves-{task}.png"
            save(_curves(results, task), out / name)
            captions[name] = (
                f"{results.title(task)}: validation loss against steps and seconds of training, "
                "mean over seeds and their range; and how well what each takes for the full "
                "gradient points along it (∇F on rows kept for that; g: the mini-batch gradient "
                "alone)."
            )
        for reference in (results.protocol.reference, results.protocol.baseline):
            table = results.against(reference)
            if len(table):
                name = f"forest-{reference}.png"
                save(_forest(results, table), out / name)
                captions[name] = (
                    f"Difference of the final validation loss to {TITLES[reference]}, paired by "
                    f"seed, with its interval: {FOREST_TEXT}"
                )
        if len(results.on_estimate):
            save(_forest(results, results.on_estimate), out / "forest-estimated.png")
            captions["forest-estimated.png"] = (
                "Difference of the final validation loss of optimizers on Ĝ to themselves on g, "
                f"paired by seed, with its interval: {FOREST_TEXT}"
            )
    return captions


def _curves(results: Results, task: str) -> Figure:
    runs = results.runs[results.runs.problem == task]
    figure = Figure(figsize=(15.0, 5.4), dpi=100, layout="constrained")
    by_step, by_second, aligned = figure.subplots(1, 3)
    at_end = results.final[results.final.problem == task].set_index("optimizer").val_loss
    ends = at_end.to_dict()
    kept = at_most(ends, ends)
    for name in OPTIMIZERS:
        if name not in kept:
            continue
        style = line(name, runs.step.nunique())
        mine = runs[runs.optimizer == name]
        finite = mine.assign(val_loss=mine.val_loss.replace(math.inf, np.nan))
        mean = finite.groupby("step")[["val_loss", "seconds", "estimator_cos"]].mean()
        spread = finite.groupby("step").val_loss.agg(["min", "max"])
        by_step.plot(mean.index, mean.val_loss, **style)
        by_step.fill_between(
            mean.index, spread["min"], spread["max"], color=style["color"], alpha=0.1
        )
        by_second.plot(mean.seconds, mean.val_loss, **style)
        cosines = mean.estimator_cos.dropna()
        aligned.plot(cosines.index, cosines, **style)
    noise = runs.groupby("step").gradient_cos.mean().dropna()
    aligned.plot(noise.index, noise, color="#000000", linewidth=3, alpha=0.25, label="g (mean)")
    ends = runs[runs.step == runs.step.max()].val_loss
    first = runs[runs.step == runs.step[runs.step > 0].min()].val_loss
    low, high = ends.min(), min(first.quantile(0.9), runs[runs.step == 0].val_loss.mean())
    for axes in (by_step, by_second):  # from the first mark on: what comes before all have alike
        axes.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
        axes.set_ylabel("validation loss")
    tokens = results.manifest["problems"][task]["tokens"]
    row = runs[runs.step == runs.step.max()].iloc[0]
    unit, count = ("tokens", "tokens") if tokens > 1 else ("examples", "examples")
    by_step.set_xlabel(f"steps of {row[count] / row.step:.0f} {unit}")
    by_second.set_xlabel("seconds of training")
    aligned.set(xlabel="steps", ylabel="cos(Ĝ, ∇F)")
    handles, labels = by_step.get_legend_handles_labels()
    (noisy,) = (h for h in aligned.get_lines() if h.get_label() == "g (mean)")
    figure.legend([*handles, noisy], [*labels, "g (mean)"], loc="outside lower center", ncols=5)
    figure.suptitle(results.title(task))
    return figure


def _forest(results: Results, comparison: pd.DataFrame) -> Figure:
    names = [name for name in OPTIMIZERS if name in set(comparison.optimizer)]
    panels = []
    for task in results.tasks:
        rows = comparison[comparison.problem == task].set_index("optimizer").reindex(names)
        panels.append(Forest(results.title(task), rows))
    return forest(panels, [TITLES[name] for name in names], "difference of the loss")
