"""What the grid of settings says of deep tasks, and of them with the convex cases."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from trainopt.deep.sensitivity import GRID_OPTIMIZERS
from trainopt.harness import grid as grids
from trainopt.harness.folder import write_whole
from trainopt.harness.grid import DEFAULT, RATES, Measure
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.names import BASELINE
from trainopt.harness.palette import TITLES

_MOST = 100.0  # percent that a diverged run counts as


def regret(ends: pd.DataFrame) -> pd.DataFrame:
    """How far each setting ends above the best of the grid, in percent of that, at most 100."""
    table: pd.DataFrame = (100 * (ends / ends.min() - 1)).clip(upper=_MOST)
    return table


PERCENT = Measure("problem", "val_loss", regret, "percent", "{:.1f}", 1.0, shown="validation loss")


def write_deep_sensitivity(out: Path) -> str:
    """Write defaults.csv, learning.csv, rates.csv, summary.md and the maps; return the text."""
    grid = by_optimizer(pd.read_parquet(out / "grid.parquet"))
    tables = {
        name: getattr(grids, name)(grid, PERCENT) for name in ("defaults", "learning", "rates")
    }
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.5g")
    grids.save_heat_maps(grid, PERCENT, TITLES, out)
    verdict = " ".join(grids.default_words(tables["defaults"], PERCENT, TITLES))
    cells = (
        grids.default_cells(tables["defaults"], PERCENT, TITLES),
        grids.learning_cells(tables["learning"], PERCENT, TITLES),
        rate_cells(grid),
    )
    text = "\n\n".join([verdict, *map(markdown, cells)])
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
    """What every β loses on each task with the constructors' α, γ tuned, and in the mean."""
    rows = []
    for optimizer, part in grid.groupby("optimizer", sort=False):
        lost = PERCENT.lost_by(part).groupby(level=RATES).min().loc[DEFAULT[0]]
        for beta, by_task in lost.iterrows():
            cells = [f"{value:.1f}" for value in (*by_task, by_task.mean())]
            rows.append([TITLES[str(optimizer)], f"{beta:g}", *cells])
    tasks = list(dict.fromkeys(sorted(grid.problem)))
    return ["optimizer", "β", *(f"{task}: percent lost" for task in tasks), "mean"], rows
