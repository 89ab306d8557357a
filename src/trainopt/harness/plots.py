"""Draw the pictures: PNG by matplotlib, interactive HTML by plotly, the same curves in both."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from trainopt.harness.curves import STYLES, Curve, Drawn, Picture, y_range
from trainopt.harness.optimizers import OPTIMIZERS

RC: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
# A logarithmic axis with ticks at 1, 2 and 5.
_LOG: Any = {"type": "log", "dtick": "D2", "exponentformat": "power"}


def save_pngs(shown: Drawn, heading: str, folder: Path) -> None:
    """Save every picture as `<name>.png` in `folder`, and the first three as overview.png."""
    with mpl.rc_context(RC):
        for picture, found in shown:
            figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
            axes = figure.subplots()
            _draw(axes, picture, found)
            # The heading is from a file's name, where a $ is a $.
            axes.set_title(f"{picture.title}: {heading}", fontsize=11, parse_math=False)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
            figure.savefig(folder / f"{picture.name}.png")
        figure = Figure(figsize=(13.0, 4.4), dpi=150, layout="constrained")
        row = figure.subplots(1, 3)
        for axes, (picture, found) in zip(row, shown, strict=False):
            _draw(axes, picture, found)
            axes.set_title(picture.title)
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)
        figure.suptitle(heading, parse_math=False)
        figure.savefig(folder / "overview.png")


def _draw(axes: Any, picture: Picture, found: list[Curve]) -> None:
    for curve in found:
        style = STYLES[curve.optimizer]
        axes.plot(
            curve.x,
            curve.mean,
            color=style.colour,
            linewidth=style.width,
            linestyle="--" if style.dashed else "-",
            label=OPTIMIZERS[curve.optimizer].title,
        )
        axes.fill_between(curve.x, curve.low, curve.high, color=style.colour, alpha=0.15, lw=0)
    axes.set(xlabel=picture.x_label, ylabel=picture.y_label)
    axes.set_xscale("log" if picture.log_x else "linear")
    axes.set_yscale("log" if picture.log else "linear")
    axes.set_ylim(y_range(found, picture.log))


def html_pictures(shown: Drawn) -> str:
    """All pictures as one interactive HTML element; a click in the legend works on all of them."""
    rows = (len(shown) + 1) // 2
    figure = make_subplots(
        rows,
        2,
        subplot_titles=[picture.title for picture, _ in shown],
        vertical_spacing=0.32 / rows,
        horizontal_spacing=0.09,
    )
    for i, (picture, found) in enumerate(shown):
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        for curve in found:
            for trace in _traces(curve, legend=i == 0):
                figure.add_trace(trace, **place)
        low, high = y_range(found, picture.log)
        figure.update_xaxes(title_text=picture.x_label, **(_LOG if picture.log_x else {}), **place)
        figure.update_yaxes(title_text=picture.y_label, **place)
        if picture.log:
            figure.update_yaxes(range=[math.log10(low), math.log10(high)], **_LOG, **place)
        else:
            figure.update_yaxes(range=[low, high], **place)
    figure.update_layout(
        template="plotly_white",
        height=90 + 400 * rows,
        margin={"l": 70, "r": 20, "t": 110, "b": 50},
        legend={"orientation": "h", "y": 0.995, "yanchor": "top", "yref": "container"},
        hovermode="x unified",
    )
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=True, config={"displaylogo": False}
    )
    return html


def _traces(curve: Curve, legend: bool) -> list[Any]:
    """The line, and the band between the lowest and the highest seed."""
    style = STYLES[curve.optimizer]
    red, green, blue = (int(style.colour[i : i + 2], 16) for i in (1, 3, 5))
    band = go.Scatter(
        x=[*curve.x, *curve.x[::-1]],
        y=[*curve.high, *curve.low[::-1]],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.13)",
        line={"width": 0},
        legendgroup=curve.optimizer,
        showlegend=False,
        hoverinfo="skip",
    )
    line = go.Scatter(
        x=curve.x,
        y=curve.mean,
        name=OPTIMIZERS[curve.optimizer].title,
        mode="lines",
        line={
            "color": style.colour,
            "width": style.width,
            "dash": "dash" if style.dashed else "solid",
        },
        legendgroup=curve.optimizer,
        showlegend=legend,
        hovertemplate="%{y:.4g}",
    )
    return [band, line]
