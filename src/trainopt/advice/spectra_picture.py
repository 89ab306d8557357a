"""The picture of `trainopt study spectrum`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.advice.spectra import CASES, SHOWN, TITLES
from trainopt.harness.plots import RC

_COLOURS = {"full": "#0072B2", "secant": "#D55E00", "adam": "#666666"}


def draw(table: pd.DataFrame, eigenvalues: pd.DataFrame, path: Path) -> None:
    """Three rows, a column per problem: F − F*, cos(A, H), and the spectra at one stage."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(12.0, 9.0), dpi=120, layout="constrained")
        axes = figure.subplots(3, len(CASES))
        for column, problem in enumerate(CASES):
            own = table[table.problem == problem]
            axes[0, column].set_title(problem)
            _lines(axes[0, column], own, "suboptimality")
            axes[0, column].set(yscale="log", ylabel="F − F*")
            _lines(axes[1, column], own, "cosine")
            axes[1, column].set(ylabel="cos(A, H)", xlabel="passes")
            _spectra(axes[2, column], eigenvalues[eigenvalues.problem == problem])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.savefig(path)


def _lines(axes: Any, own: pd.DataFrame, quantity: str) -> None:
    for name, title in TITLES.items():
        rows = own[own.optimizer == name].groupby("passes")[quantity].median()
        values = rows.clip(lower=1e-15) if quantity == "suboptimality" else rows
        axes.plot(rows.index, values, color=_COLOURS[name], marker="o", markersize=3, label=title)
    axes.set_xscale("log")


def _spectra(axes: Any, own: pd.DataFrame) -> None:
    """Eigenvalues of A in the run of seed 0, the largest first, beside those of H."""
    first = own[own.seed == 0]
    for name in TITLES:
        values = first[first.optimizer == name]
        places = np.arange(1, len(values) + 1)
        axes.plot(
            places,
            np.sort(values.of_A)[::-1].clip(1e-6),
            color=_COLOURS[name],
            linewidth=1.5,
        )
        if name == "secant":
            axes.plot(places, np.sort(values.of_H)[::-1], color="black", linestyle=":")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"number of the eigenvalue, after {SHOWN} passes",
        ylabel="eigenvalue of A; dotted: of H",
    )
