"""What a grid of settings says: the regret of fixed ones, what A adds, and heat maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.harness.markdown import Cells
from trainopt.harness.plots import RC, save

PAPER = (0.01, 1.0)  # α and β that the paper recommends for deep networks
RATES = ["alpha", "beta"]
SETTING = ["lr_schedule", "lr", *RATES]


@dataclass(frozen=True)
class Measure:
    """How the ends of a grid are compared. A grid has a row per problem, optimizer, setting, seed.

    Attributes:
        value: the column with the end of the run; lower is better, inf is a diverged one.
        regret: from ends (settings, problems) to how far each is above the lowest of its problem.
        lost: what that is called, in the head of a table.
        form: of a regret in a table.
        notable: a difference of regrets that counts.
        shown: what a heat map shows, in words.
    """

    value: str
    regret: Callable[[pd.DataFrame], pd.DataFrame]
    lost: str
    form: str
    notable: float
    shown: str

    def ends(self, grid: pd.DataFrame) -> pd.DataFrame:
        """The mean end over seeds: settings are rows, problems columns; inf where one diverged."""
        table: pd.DataFrame = grid.pivot_table(index=SETTING, columns="problem", values=self.value)
        return table

    def lost_by(self, grid: pd.DataFrame) -> pd.DataFrame:
        """The regret of every setting, alike."""
        return self.regret(self.ends(grid))


def defaults(grid: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """What fixed settings lose against the best of each problem.

    Returns:
        A row per optimizer: the number of problems under their name, diverged (share of all runs),
        the fixed setting with the lowest mean regret (lr_schedule, lr, alpha, beta) with its mean
        and largest regret; the same for α and β alone, with γ and its schedule the best of each
        problem (tuned_*); and the mean regret of the paper's α and β with such a γ
        (paper_regret).
    """
    rows = []
    for optimizer, part in grid.groupby("optimizer", sort=False):
        lost = measure.lost_by(part)
        fixed = lost.mean(axis=1)
        tuned = lost.groupby(level=RATES).min().mean(axis=1)
        rates = dict(zip(RATES, lowest(tuned), strict=True))
        rows.append(
            {"optimizer": optimizer, "problems": lost.shape[1]}
            | {"diverged": np.isinf(part[measure.value]).mean()}
            | dict(zip(SETTING, lowest(fixed), strict=True))
            | {"regret": fixed.min(), "worst": lost.loc[lowest(fixed)].max()}
            | {f"tuned_{name}": rate for name, rate in rates.items()}
            | {"tuned_regret": tuned.min()}
            | {"paper_regret": float(tuned.loc[PAPER])}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def rates(grid: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """What every α and β loses when γ and its schedule are the best of each problem.

    Returns:
        Columns optimizer, alpha, beta, mean and worst (regrets over the problems).
    """
    pieces = []
    for optimizer, part in grid.groupby("optimizer", sort=False):
        lost = measure.lost_by(part).groupby(level=RATES).min()
        table = pd.DataFrame({"mean": lost.mean(axis=1), "worst": lost.max(axis=1)}).reset_index()
        pieces.append(table.assign(optimizer=optimizer))
    joined = pd.concat(pieces, ignore_index=True)
    ordered: pd.DataFrame = joined[["optimizer", *RATES, "mean", "worst"]]
    return ordered


def learning(grid: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """What learning A adds when everything else is the best of the grid, problem by problem.

    Returns:
        Columns optimizer, the problem, with_A (the lowest end with α > 0), without (with α = 0),
        gain (by how much less the first loses) and alpha (where it is).
    """
    rows = []
    for optimizer, part in grid.groupby("optimizer", sort=False):
        found, lost = measure.ends(part), measure.lost_by(part)
        learned = found.index.get_level_values("alpha") > 0
        rows += [
            {"optimizer": optimizer, "problem": problem}
            | {"with_A": found[problem][learned].min(), "without": found[problem][~learned].min()}
            | {"gain": lost[problem][~learned].min() - lost[problem][learned].min()}
            | {"alpha": lowest(found[problem][learned])[SETTING.index("alpha")]}
            for problem in found
        ]
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def lowest(values: pd.Series[float]) -> Any:
    """The label of the lowest value: a tuple of settings."""
    return values.idxmin()


# Texts and pictures -----------------------------------------------------------------------------


def default_words(defaults: pd.DataFrame, measure: Measure, titles: dict[str, str]) -> list[str]:
    """What the paper's α and β lose, in a sentence per optimizer."""
    return [
        f"{titles[row['optimizer']]} with the paper's α = {PAPER[0]:g} and β = "
        f"{PAPER[1]:g} ends {measure.form.format(row['paper_regret'])} {measure.lost} above "
        f"the best of each problem when γ is tuned, and with α = {row['tuned_alpha']:g} "
        f"and β = {row['tuned_beta']:g} {measure.form.format(row['tuned_regret'])}."
        for row in defaults.to_dict("records")
    ]


def default_cells(table: pd.DataFrame, measure: Measure, titles: dict[str, str]) -> Cells:
    """`defaults` as texts."""
    columns = ["optimizer", "problems", "runs that diverge", "best fixed γ, schedule, α, β"]
    columns += [f"{measure.lost} lost: mean", "worst", "best fixed α, β with γ tuned"]
    columns += [f"{measure.lost} lost"]
    columns += [f"paper's α, β with γ tuned: {measure.lost} lost"]
    form = measure.form.format
    rows = [
        [
            titles[row["optimizer"]],
            str(row["problems"]),
            f"{100 * row['diverged']:.0f} %",
            f"{row['lr']:g}, {row['lr_schedule']}, {row['alpha']:g}, {row['beta']:g}",
            form(row["regret"]),
            form(row["worst"]),
            f"{row['tuned_alpha']:g}, {row['tuned_beta']:g}",
            form(row["tuned_regret"]),
            form(row["paper_regret"]),
        ]
        for row in table.to_dict("records")
    ]
    return columns, rows


def learning_cells(table: pd.DataFrame, measure: Measure, titles: dict[str, str]) -> Cells:
    """`learning` as texts."""
    rows = []
    for optimizer, part in table.groupby("optimizer", sort=False):
        gain = part.gain.replace([np.inf, -np.inf], np.nan)
        rows.append(
            [
                titles[str(optimizer)],
                str(len(part)),
                f"{gain.median():+.3f}",
                f"{gain.max():+.2f} ({part.problem[gain.idxmax()]})",
                f"{int((gain > measure.notable).sum())}",
                f"{int((gain < -measure.notable).sum())}",
            ]
        )
    head = ["optimizer", "problems", f"{measure.lost} by learning A: median", "most"]
    return [*head, f"> {measure.notable:g}", f"< −{measure.notable:g}"], rows


def save_heat_maps(
    grid: pd.DataFrame, measure: Measure, titles: dict[str, str], folder: Path
) -> None:
    """Save a picture for each optimizer: a map per problem over α and β, at the best γ.

    Hatched is where half of all γ diverge.
    """
    with mpl.rc_context(RC):
        for optimizer, part in grid.groupby("optimizer", sort=False):
            save(_heat_maps(part, titles[str(optimizer)], measure), folder / f"{optimizer}.png")


def _heat_maps(part: pd.DataFrame, title: str, measure: Measure) -> Figure:
    problems = list(dict.fromkeys(part.problem))
    columns = min(7, len(problems))
    rows = -(-len(problems) // columns)
    width = max(2.3 * columns, 9.0)  # as wide as the title
    figure = Figure(figsize=(width, 0.8 + 2.2 * rows), dpi=80, layout="constrained")
    axes_of = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in axes_of[len(problems) :]:
        axes.set_visible(False)
    for axes, problem in zip(axes_of, problems, strict=False):
        image = _heat_map(axes, measure.ends(part)[problem], problem)
        figure.colorbar(image, ax=axes)
    figure.supxlabel("β")
    figure.supylabel("α")
    figure.suptitle(f"{title}: {measure.shown} at the best γ; hatched where half of all γ diverge")
    return figure


def _heat_map(axes: Any, ends: pd.Series[float], problem: str) -> Any:
    table = ends.groupby(level=RATES)
    best = table.min().unstack("beta")
    unstable = table.agg(lambda values: np.isinf(values).mean()).unstack("beta") >= 0.5
    image = axes.imshow(best.replace(np.inf, np.nan), origin="lower", aspect="auto", cmap="viridis")
    for i, j in np.argwhere(unstable.to_numpy()):
        axes.add_patch(
            mpl.patches.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", lw=0)
        )
    axes.set_xticks(range(best.shape[1]), [f"{b:g}" for b in best.columns], fontsize=7)
    axes.set_yticks(range(best.shape[0]), [f"{a:g}" for a in best.index], fontsize=7)
    axes.set_title(problem, fontsize=8)
    axes.grid(False)
    return image
