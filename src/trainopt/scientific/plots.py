"""The pictures of the scientific study: one for each problem, as PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.harness.palette import PALETTE
from trainopt.harness.plots import RC, line
from trainopt.scientific.tables import OPTIMIZERS, value_at


def save_pictures(runs: pd.DataFrame, out: Path) -> None:
    """Draw `<problem>.png`: loss and error, by passes and by seconds, with the range over seeds."""
    with mpl.rc_context(RC):
        for problem, group in runs.groupby("problem", sort=False):
            _picture(str(problem), group).savefig(out / f"{problem}.png")


def _picture(problem: str, runs: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(13.0, 4.6), dpi=100, layout="constrained")
    panels = [("loss", "passes"), ("error", "passes"), ("loss", "seconds")]
    for axes, (measure, axis) in zip(figure.subplots(1, 3), panels, strict=True):
        for name in OPTIMIZERS:
            by_seed = [run for _, run in runs[runs.optimizer == name].groupby("seed")]
            if not by_seed:
                continue
            end = min(float(run[axis].iloc[-1]) for run in by_seed)
            places = np.linspace(0, end, 81)
            curves = [[10 ** value_at(run, measure, axis, x) for x in places] for run in by_seed]
            middle = np.median(curves, axis=0)
            axes.plot(places, middle, **line(name, len(places)))
            low, high = np.min(curves, axis=0), np.max(curves, axis=0)
            axes.fill_between(places, low, high, color=PALETTE[name].colour, alpha=0.1, linewidth=0)
        label = "relative L2 error" if measure == "error" else "loss on all points"
        axes.set(xlabel=axis, ylabel=label, yscale="log")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    figure.suptitle(problem)
    return figure
