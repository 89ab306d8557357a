"""The pictures of the convex study, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.convex.names import OURS, STYLES, TITLES
from trainopt.convex.tables import Results
from trainopt.harness.outcomes import FLOOR
from trainopt.harness.plots import RC
from trainopt.harness.ranking import Ranking, best_of, cliques, profile
from trainopt.harness.statistics import counts_text

_CURVES = (*OURS, "alpha0", "adam", "adam-constant", "schedulefree-sgd", "svrg", "saga", "lbfgs")
_VERDICTS = {"win": "#009E73", "tie": "#888888", "loss": "#D55E00"}


def save_pictures(results: Results, out: Path) -> dict[str, str]:
    """Draw everything; return the caption of each file."""
    protocol = results.protocol
    captions = {}
    with mpl.rc_context(RC):
        for reference in results.references:
            name = f"forest-{reference}.png"
            _save(_forest(results.against(reference), results.cases), out / name)
            captions[name] = (
                f"Paired differences to {TITLES[reference]} in log₁₀(F − F*), in decades: left of "
                "0 is better. Bars are 95 % bootstrap intervals over seeds; green wins, orange "
                "losses, after Holm's correction. A diverged run is at the right edge."
            )
        name = "profiles.png"
        _save(_profiles(results), out / name)
        captions[name] = (
            f"Performance profiles: the share of cases solved (F − F* down to "
            f"{protocol.profile_target:g} of its start) within τ times the best solver's passes, "
            "and seconds."
        )
        name = "ranks.png"
        _save(_ranks({column: results.rank(column) for column in _RANKED}), out / name)
        captions[name] = (
            "Mean ranks over all cases; a bar joins optimizers that Nemenyi's test doesn't "
            "tell apart."
        )
        name = "best-of-k.png"
        _save(_best_of_k(results.trials, protocol.main), out / name)
        captions[name] = (
            "The best of the first K trials, in decades above the best trial of any optimizer, "
            "mean over cases and searches: what a smaller or larger tuning budget buys."
        )
        name = "curves.png"
        _save(_curves(results), out / name)
        captions[name] = "F − F* against passes over the data, geometric mean over runs."
    return captions


_RANKED = {"final": "F − F* at the end", "area": "area over passes", "area_seconds": "over seconds"}


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path)


def _forest(comparison: pd.DataFrame, cases: list[str]) -> Figure:
    shown_ones = [name for name in OURS if name in set(comparison.optimizer)]
    size = (1.5 + 3.6 * len(shown_ones), 1.6 + 0.27 * len(cases))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(1, len(shown_ones), sharey=True, squeeze=False)[0]
    for axes, optimizer in zip(panels, shown_ones, strict=True):
        rows = comparison[comparison.optimizer == optimizer].set_index("case").reindex(cases)
        finite = rows.difference.replace(np.inf, np.nan).abs()
        edge = float(max(finite.max(), 0.5)) * 1.1
        y = np.arange(len(cases))[::-1]
        shown = rows.difference.clip(-edge, edge).to_numpy()
        for i, (at, row) in enumerate(zip(y, rows.to_dict("records"), strict=True)):
            colour = _VERDICTS.get(row["verdict"], "#888888")
            axes.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=2)
            axes.plot(shown[i], at, "o", color=colour, markersize=4)
        counts = rows.verdict.value_counts().reindex(list(_VERDICTS), fill_value=0)
        axes.axvline(0, color="#333333", linewidth=1)
        axes.set(
            xlim=(-edge, edge),
            xlabel="decades",
            yticks=y,
            title=f"{TITLES[optimizer]}: " + counts_text(counts, "{} win, {} tie, {} loss"),
        )
        axes.set_yticklabels(cases, fontsize=9)
    return figure


def _profiles(results: Results) -> Figure:
    figure = Figure(figsize=(13.0, 5.2), dpi=120, layout="constrained")
    panels = {"passes_to": "passes over the data", "seconds_to": "seconds"}
    for axes, (column, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        taus, shares = profile(
            results.costs(column).drop(columns=["fixed-b", "lagged"], errors="ignore")
        )
        end = min(float(taus[-1]), 100.0) * 1.1
        for name in shares:
            _step(
                axes,
                str(name),
                np.append(taus, end),
                np.append(shares[name], shares[name].iloc[-1]),
            )
        axes.set(xscale="log", xlim=(1, end), ylim=(0, 1.02), xlabel=f"τ, {label}")
        axes.set_ylabel("share of cases solved")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def _step(axes: Any, name: str, x: Any, y: Any) -> None:
    style = STYLES[name]
    axes.step(
        x,
        y,
        where="post",
        color=style.colour,
        linewidth=style.width,
        linestyle="--" if style.dashed else "-",
        label=TITLES[name],
    )


def _ranks(rankings: dict[str, Ranking]) -> Figure:
    figure = Figure(figsize=(13.0, 5.6), dpi=120, layout="constrained")
    for axes, (column, found) in zip(
        figure.subplots(1, len(rankings)), rankings.items(), strict=True
    ):
        ranks = found.ranks
        y = np.arange(len(ranks))[::-1]
        axes.scatter(ranks, y, c=[STYLES[str(name)].colour for name in ranks.index], zorder=3)
        for place, (first, last) in enumerate(cliques(ranks, found.critical_difference)):
            x = ranks.max() + 0.35 + 0.22 * place
            axes.plot([x, x], [y[first], y[last]], color="#333333", linewidth=3)
        axes.set(yticks=y, xlabel="mean rank")
        axes.set_yticklabels([TITLES[str(name)] for name in ranks.index], fontsize=9)
        axes.set_title(
            f"{_RANKED[column]}\nFriedman p {found.p:.1e}, CD {found.critical_difference:.2f}",
            fontsize=10,
        )
    return figure


def _best_of_k(trials: pd.DataFrame, main: int) -> Figure:
    figure = Figure(figsize=(9.5, 5.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    table = best_of(trials[trials.number < main])
    for name in table:
        _step(axes, str(name), table.index, table[name])
    axes.set(xlabel="trials K", ylabel="decades above the best", yscale="log")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def mean_curves(results: Results, case: str) -> dict[str, pd.Series[float]]:
    """The geometric mean of F − F* by passes, for optimizers and solvers; no diverged runs."""
    part = results.runs[
        (results.runs.case == case) & (results.runs.budget == results.protocol.main)
    ]
    tuned = part[["optimizer", "passes", "suboptimality"]].astype({"optimizer": str})
    solved = results.solvers[results.solvers.case == case]
    both = pd.concat([tuned, solved[["optimizer", "passes", "suboptimality"]]])
    both = both[np.isfinite(both.suboptimality)]
    logs = np.log10(both.suboptimality.clip(lower=FLOOR))
    means = 10 ** logs.groupby([both.optimizer, both.passes]).mean()
    return {
        name: means[name] for name in TITLES if name in means.index.get_level_values("optimizer")
    }


def _curves(results: Results) -> Figure:
    columns = 4
    rows = -(-len(results.cases) // columns)
    figure = Figure(figsize=(16.0, 3.2 * rows), dpi=80, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(results.cases) :]:
        axes.set_visible(False)
    for axes, case in zip(grid, results.cases, strict=False):
        for name, curve in mean_curves(results, case).items():
            if name in _CURVES:
                style = STYLES[name]
                axes.semilogy(
                    curve.index,
                    curve,
                    color=style.colour,
                    linewidth=style.width,
                    linestyle="--" if style.dashed else "-",
                    label=TITLES[name],
                )
        axes.set_title(case, fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure
