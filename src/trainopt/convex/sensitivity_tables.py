"""What the grid of settings says of strongly convex cases."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from trainopt.harness import grid as grids
from trainopt.harness import palette
from trainopt.harness.folder import write_whole
from trainopt.harness.grid import Measure
from trainopt.harness.markdown import markdown
from trainopt.harness.names import NORMALISED

TITLES = {name: palette.TITLES[name] for pair in NORMALISED.items() for name in reversed(pair)}
_MOST = 5.0  # decades that a diverged run counts as


def regret(ends: pd.DataFrame) -> pd.DataFrame:
    """How far each setting ends above the best of the grid, in decades, at most 5."""
    table: pd.DataFrame = (ends - ends.min()).clip(upper=_MOST)
    return table


DECADES = Measure("gap", regret, "decades", "{:.2f}", 0.1, shown="log₁₀ of (F − F*)/(F(0) − F*)")


def write_sensitivity(out: Path) -> str:
    """Write defaults.csv, learning.csv, rates.csv, summary.md and the maps; return the text."""
    grid = pd.read_parquet(out / "grid.parquet")
    order = {name: place for place, name in enumerate(TITLES)}
    grid = grid.sort_values("optimizer", key=lambda names: names.map(order), kind="stable")
    tables = {
        name: getattr(grids, name)(grid, DECADES) for name in ("defaults", "learning", "rates")
    }
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.5g")
    grids.save_heat_maps(grid, DECADES, TITLES, out)
    defaults, learning = tables["defaults"], tables["learning"]
    cells = (
        grids.default_cells(defaults, DECADES, TITLES),
        grids.learning_cells(learning, DECADES, TITLES),
    )
    text = "\n\n".join([verdict(defaults, learning), *map(markdown, cells)])
    write_whole(out / "summary.md", (text + "\n").encode())
    return text


def verdict(defaults: pd.DataFrame, learning: pd.DataFrame) -> str:
    """What was found, in sentences made from the two tables."""
    plain = defaults[~defaults.optimizer.isin(list(NORMALISED))]
    sentences = grids.default_words(plain, DECADES, TITLES)
    lowest = learning[["with_A", "without"]].min(axis=1)
    best = learning.assign(best=lowest).pivot_table(
        index="problem", columns="optimizer", values="best", observed=True
    )
    for name, plain in sorted(NORMALISED.items()):
        if name not in best:
            continue
        change = (best[name] - best[plain]).dropna()
        sentences.append(
            f"The normalised rate's best setting of {TITLES[plain]} ends lower than the plain "
            f"rate's by more than 0.1 decades on {int((change < -0.1).sum())} of {len(change)} "
            f"cases, and higher on {int((change > 0.1).sum())}."
        )
    return " ".join(sentences)
