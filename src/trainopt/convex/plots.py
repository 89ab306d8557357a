"""The pictures of the convex study, as PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.convex.names import OURS
from trainopt.convex.tables import Results
from trainopt.harness.outcomes import FLOOR
from trainopt.harness.palette import PALETTE, TITLES, VERDICTS, at_most
from trainopt.harness.plots import (
    FOREST_TEXT,
    RC,
    Forest,
    forest,
    line,
    names_below,
    save,
    step,
)
from trainopt.harness.ranking import Ranking, best_of, cliques, profile
from trainopt.harness.statistics import counts_text

_CURVES = (*OURS, "alpha0", "adam", "schedulefree-sgd", "lbfgs")


def save_pictures(results: Results, out: Path) -> dict[str, str]:
    """Draw everything; return the caption of each file."""
    protocol = results.protocol
    captions = {}
    with mpl.rc_context(RC):
        for reference in results.references:
            name = f"forest-{reference}.png"
            save(_forest(results, reference), out / name)
            captions[name] = (
                f"Paired differences to {TITLES[reference]} in log₁₀(F − F*), in decades, with "
                f"their 95 % bootstrap intervals over seeds: {FOREST_TEXT}"
            )
        name = "profiles.png"
        save(_profiles(results), out / name)
        captions[name] = (
            f"Performance profiles: the share of cases solved (F − F* down to "
            f"{protocol.profile_target:g} of its start) within τ times the best solver's passes, "
            "and seconds."
        )
        name = "ranks.png"
        save(_ranks({column: results.rank(column) for column in _RANKED}), out / name)
        captions[name] = (
            "Mean ranks over all cases; a bar joins optimizers that Nemenyi's test doesn't "
            "tell apart."
        )
        name = "best-of-k.png"
        save(_best_of_k(results.trials, protocol.main), out / name)
        captions[name] = (
            "The best of the first K trials, in decades above the best trial of any optimizer, "
            "mean over cases and searches: what a smaller or larger tuning budget buys."
        )
        name = "curves.png"
        save(_curves(results), out / name)
        captions[name] = "F − F* against passes over the data, geometric mean over runs."
    return captions


_RANKED = {"final": "F − F* at the end", "area": "area over passes", "area_seconds": "over seconds"}


def _forest(results: Results, reference: str) -> Figure:
    comparison = results.against(reference)
    panels = []
    for name in results.ours:
        rows = comparison[comparison.optimizer == name].set_index("problem").reindex(results.cases)
        counts = rows.verdict.value_counts().reindex(list(VERDICTS), fill_value=0)
        words = counts_text(counts, "{} win, {} tie, {} loss")
        panels.append(Forest(f"{TITLES[name]}: {words}", rows))
    return forest(panels, results.cases, "decades", columns=len(panels))


def _profiles(results: Results) -> Figure:
    figure = Figure(figsize=(13.0, 5.2), dpi=120, layout="constrained")
    panels = {"passes_to": "passes over the data", "seconds_to": "seconds"}
    for axes, (column, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        taus, shares = profile(
            results.costs(column).drop(columns=["fixed-b", "lagged"], errors="ignore")
        )
        end = min(float(taus[-1]), 100.0) * 1.1
        unsolved = {str(name): -float(shares[name].mean()) for name in shares}
        for name in at_most(unsolved, unsolved):
            last = shares[name].iloc[-1]
            step(axes, name, np.append(taus, end), np.append(shares[name], last))
        axes.set(xscale="log", xlim=(1, end), ylim=(0, 1.02), xlabel=f"τ, {label}")
        axes.set_ylabel("share of cases solved")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def _ranks(rankings: dict[str, Ranking]) -> Figure:
    figure = Figure(figsize=(13.0, 5.6), dpi=120, layout="constrained")
    for axes, (column, found) in zip(
        figure.subplots(1, len(rankings)), rankings.items(), strict=True
    ):
        ranks = found.ranks
        y = np.arange(len(ranks))[::-1]
        for name, rank, at in zip(ranks.index, ranks, y, strict=True):
            style = PALETTE[str(name)]
            axes.plot(rank, at, style.marker, color=style.colour, markersize=7, zorder=3)
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
    ends = {str(name): float(table[name].iloc[-1]) for name in table}
    for name in at_most(ends, ends):
        step(axes, name, table.index, table[name])
    axes.set(xlabel="trials K", ylabel="decades above the best", yscale="log")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def mean_curves(results: Results, case: str) -> dict[str, pd.Series[float]]:
    """The geometric mean of F − F* by passes, for optimizers and solvers; no diverged runs."""
    part = results.runs[
        (results.runs.problem == case) & (results.runs.budget == results.protocol.main)
    ]
    tuned = part[["optimizer", "passes", "suboptimality"]].astype({"optimizer": str})
    solved = results.solvers[results.solvers.problem == case]
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
                axes.semilogy(curve.index, curve, **line(name, len(curve)))
        axes.set_title(case, fontsize=10)
    names_below(figure, grid[0])
    return figure
