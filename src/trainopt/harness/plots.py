"""How pictures are drawn: lines, forests, and what a page needs to draw the same curves itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from trainopt.harness.curves import Curve, Drawn, Picture, y_range
from trainopt.harness.palette import MOST, PALETTE, TITLES, VERDICTS, at_most

RC: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
# Markers on a line, and the colours that are enough for a picture of lines.
_MARKERS, _COLOURS = 9, 128


def line(name: str, points: int = 1, label: str | None = None) -> dict[str, Any]:
    """Keyword arguments of matplotlib for the line of an optimizer or solver.

    Args:
        name: of the palette.
        points: how many the line has: a few of them get a marker.
        label: in the legend, in place of the title.
    """
    style = PALETTE[name]
    every = max(1, points // _MARKERS)
    return {
        "color": style.colour,
        "linewidth": style.width,
        "linestyle": _DASHES[style.dash],
        "marker": style.marker,
        # Lines that lie on each other have their markers side by side.
        "markevery": (list(PALETTE).index(name) % every, every),
        "markersize": 4 + style.width,
        "label": TITLES[name] if label is None else label,
    }


def save(figure: Figure, path: Path) -> None:
    """Save a picture, with as many colours as it needs: a third of the bytes."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    few = Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)


def save_pngs(shown: Drawn, heading: str, folder: Path) -> None:
    """Save every picture as `<name>.png` in `folder`, and the first three as overview.png."""
    ends = {curve.optimizer: float(curve.mean[-1]) for curve in shown[0][1]}
    kept = set(at_most(ends, ends))  # in all pictures the same
    with mpl.rc_context(RC):
        for picture, found in shown:
            figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
            axes = figure.subplots()
            _draw(axes, picture, [curve for curve in found if curve.optimizer in kept])
            # The heading is from a file's name, where a $ is a $.
            axes.set_title(f"{picture.title}: {heading}", fontsize=11, parse_math=False)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
            save(figure, folder / f"{picture.name}.png")
        figure = Figure(figsize=(13.0, 4.4), dpi=150, layout="constrained")
        row = figure.subplots(1, 3)
        for axes, (picture, found) in zip(row, shown, strict=False):
            _draw(axes, picture, [curve for curve in found if curve.optimizer in kept])
            axes.set_title(picture.title)
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=MOST // 2)
        figure.suptitle(heading, parse_math=False)
        save(figure, folder / "overview.png")


def _draw(axes: Any, picture: Picture, found: list[Curve]) -> None:
    for curve in found:
        axes.plot(curve.x, curve.mean, **line(curve.optimizer, len(curve.x)))
        colour = PALETTE[curve.optimizer].colour
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel=picture.x_label, ylabel=picture.y_label)
    axes.set_xscale("log" if picture.log_x else "linear")
    axes.set_yscale("log" if picture.log else "linear")
    axes.set_ylim(y_range(found, picture.log))


def step(axes: Any, name: str, x: Any, y: Any) -> None:
    """Draw a step function."""
    axes.step(x, y, where="post", **line(name, len(x)))


def names_below(figure: Figure, axes: Any, columns: int = MOST // 2) -> None:
    """One legend below all axes of a figure, from those of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


@dataclass(frozen=True)
class Forest:
    """One pair of axes of a forest plot: a difference, its interval and verdict in every row.

    Attributes:
        title: above it.
        table: columns difference, low, high and verdict; a row per label, NaN where there is none.
    """

    title: str
    table: pd.DataFrame


def forest(panels: Sequence[Forest], labels: Sequence[str], unit: str, columns: int = 3) -> Figure:
    """Paired differences: left of 0 is better.

    Wins are filled circles, ties open ones, losses squares; a cross is a diverged run. Of an
    interval beyond the edge, an arrow is left.

    Args:
        panels: one for each pair of axes, whose rows are in the order of the labels.
        labels: of the rows, from the top.
        unit: of the differences.
        columns: axes side by side.
    """
    columns = max(1, min(columns, len(panels)))
    lines = -(-len(panels) // columns)
    size = (1.6 + 3.9 * columns, lines * (1.5 + 0.27 * len(labels)))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    y = np.arange(len(labels))[::-1]
    for axes, panel in zip(grid, panels, strict=False):
        finite = panel.table.difference.replace([np.inf, -np.inf], np.nan).abs()
        edge = 1.3 * max(float(finite.max()), 1e-3) if finite.notna().any() else 1.0
        for at, row in zip(y, panel.table.to_dict("records"), strict=True):
            _forest_row(axes, int(at), row, edge)
        axes.axvline(0, color="#333333", linewidth=1)
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlim=(-edge, edge), title=panel.title, xlabel=unit)
        axes.set_yticks(y, labels, fontsize=9)
    return figure


def _forest_row(axes: Any, at: int, row: dict[Any, Any], edge: float) -> None:
    if math.isnan(row["difference"]):
        return
    colour, marker, filled = VERDICTS.get(str(row["verdict"]), VERDICTS["tie"])
    if not math.isfinite(row["difference"]):
        marker = "X"
    axes.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=2)
    x = float(np.clip(row["difference"], -0.96 * edge, 0.96 * edge))
    inside = colour if filled else "white"
    axes.plot(x, at, marker, color=colour, markerfacecolor=inside, markersize=5)


FOREST_TEXT = (
    "left of 0 is better. Filled circles are wins, squares losses, open circles ties, after Holm's "
    "correction; a cross is a diverged run."
)


def charts(shown: Drawn) -> list[dict[str, Any]]:
    """The same curves for a page that draws them itself."""
    return [
        {
            "title": picture.title,
            "x": {"title": picture.x_label, "log": picture.log_x},
            "y": {
                "title": picture.y_label,
                "log": picture.log,
                "range": list(y_range(found, picture.log)),
            },
            "lines": {
                curve.optimizer: {
                    "x": rounded(curve.x),
                    "y": rounded(curve.mean),
                    "low": rounded(curve.low),
                    "high": rounded(curve.high),
                }
                for curve in found
            },
        }
        for picture, found in shown
    ]


def rounded(values: Any) -> list[float]:
    """Numbers with as many digits as a picture shows."""
    return [float(f"{value:.4g}") for value in values]
