"""What the grid of settings says of deep tasks, and of them with the convex cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.deep.sensitivity import GRID_OPTIMIZERS
from trainopt.harness import grid as grids
from trainopt.harness.folder import write_whole
from trainopt.harness.grid import PAPER, RATES, Measure
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.names import BASELINE
from trainopt.harness.palette import TITLES

_MOST = 100.0  # percent that a diverged run counts as


def regret(ends: pd.DataFrame) -> pd.DataFrame:
    """How far each setting ends above the best of the grid, in percent of that, at most 100."""
    table: pd.DataFrame = (100 * (ends / ends.min() - 1)).clip(upper=_MOST)
    return table


PERCENT = Measure("val_loss", regret, "percent", "{:.1f}", 1.0, shown="validation loss")


def write_deep_sensitivity(out: Path) -> str:
    """Write defaults.csv, learning.csv, rates.csv, summary.md and the maps; return the text.

    Where the grid on convex cases lies beside it, as `sensitivity`, also together.csv; where it
    doesn't, the one that is there is kept.
    """
    grid = by_optimizer(pd.read_parquet(out / "grid.parquet"))
    tables = {
        name: getattr(grids, name)(grid, PERCENT) for name in ("defaults", "learning", "rates")
    }
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.5g")
    grids.save_heat_maps(grid, PERCENT, TITLES, out)
    words = grids.default_words(tables["defaults"], PERCENT, TITLES)
    cells = [
        grids.default_cells(tables["defaults"], PERCENT, TITLES),
        grids.learning_cells(tables["learning"], PERCENT, TITLES),
        rate_cells(grid),
    ]
    convex, joint = out.resolve().parent / "sensitivity" / "rates.csv", out / "together.csv"
    if convex.exists():
        both = together(pd.read_csv(convex), tables["rates"])
        both.to_csv(joint, index=False, float_format="%.5g")
    if joint.exists():
        both = pd.read_csv(joint)
        words += together_words(both)
        cells.append(together_cells(both))
    text = "\n\n".join([" ".join(words), *map(markdown, cells)])
    write_whole(out / "summary.md", (text + "\n").encode())
    return text


def by_optimizer(grid: pd.DataFrame) -> pd.DataFrame:
    """The grid with the runs of α = 0, which are one for all variants, under each of them."""
    table: pd.DataFrame = pd.concat(
        [
            grid[grid.optimizer.isin([name, BASELINE])].assign(optimizer=name)
            for name in GRID_OPTIMIZERS
        ],
        ignore_index=True,
    )
    return table


def rate_cells(grid: pd.DataFrame) -> Cells:
    """What every β loses on each task with the paper's α, γ tuned, and in the mean."""
    rows = []
    for optimizer, part in grid.groupby("optimizer", sort=False):
        lost = PERCENT.lost_by(part).groupby(level=RATES).min().loc[PAPER[0]]
        for beta, by_task in lost.iterrows():
            cells = [f"{value:.1f}" for value in (*by_task, by_task.mean())]
            rows.append([TITLES[str(optimizer)], f"{beta:g}", *cells])
    tasks = list(dict.fromkeys(sorted(grid.problem)))
    return ["optimizer", "β", *(f"{task}: percent lost" for task in tasks), "mean"], rows


def together(convex: pd.DataFrame, deep: pd.DataFrame) -> pd.DataFrame:
    """What the α and β of both grids lose, γ tuned.

    Args:
        convex: of the convex cases, from `trainopt.harness.grid.rates`.
        deep: the same of the deep tasks.

    Returns:
        Columns optimizer, alpha, beta, convex (decades), deep (percent), each in the mean, and
        of_paper: both as parts of what the paper's α and β lose, averaged.
    """
    keys = ["optimizer", *RATES]
    table = deep[[*keys, "mean"]].merge(convex[[*keys, "mean"]], on=keys, suffixes=("_d", "_c"))
    table = table.rename(columns={"mean_c": "convex", "mean_d": "deep"})
    pieces = []
    for _, part in table.groupby("optimizer", sort=False):
        (paper,) = part[(part.alpha == PAPER[0]) & (part.beta == PAPER[1])].itertuples()
        of_paper = (part.convex / paper.convex + part.deep / paper.deep) / 2
        pieces.append(part.assign(of_paper=of_paper))
    joined = pd.concat(pieces, ignore_index=True)
    ordered: pd.DataFrame = joined[[*keys, "convex", "deep", "of_paper"]]
    return ordered


def together_words(table: pd.DataFrame) -> list[str]:
    """Which α and β lose least over convex cases and deep tasks, in a sentence per optimizer."""
    sentences = []
    for optimizer, part in table.groupby("optimizer", sort=False):
        least, learned = (
            next(some.nsmallest(1, "of_paper").itertuples())
            for some in (part, part[part.alpha > 0])
        )
        by_beta = part[part.alpha == PAPER[0]].sort_values("beta").itertuples()
        sentences.append(
            f"Over convex cases and deep tasks {TITLES[str(optimizer)]} loses least with α = "
            f"{least.alpha:g} and β = {least.beta:g} ({_lost(least)}), and where A is learned with "
            f"α = {learned.alpha:g} and β = {learned.beta:g} ({_lost(learned)}); with the paper's "
            f"α it loses "
            + ", ".join(
                f"{_lost(row)} at β = {row.beta:g}".replace(", ", " and ") for row in by_beta
            )
            + "."
        )
    return sentences


def _lost(row: Any) -> str:
    return f"{row.convex:.2f} decades, {row.deep:.1f} percent"


def together_cells(table: pd.DataFrame) -> Cells:
    """Decades lost on convex cases and percent lost on deep tasks: a row per α, a column per β."""
    rows = []
    for (optimizer, alpha), part in table.groupby(["optimizer", "alpha"], sort=False):
        lost = [f"{row.convex:.2f}, {row.deep:.1f} %" for row in part.itertuples()]
        rows.append([TITLES[str(optimizer)], f"{alpha:g}", *lost])
    return ["optimizer", "α", *(f"β = {beta:g}" for beta in sorted(set(table.beta)))], rows
