"""What the grid of settings says: regret of fixed defaults, what A adds, and heat maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainopt.harness import palette
from trainopt.harness.folder import write_whole
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.plots import RC

TITLES = {
    f"{name}{rule}": f"{palette.TITLES[name]}{words}"
    for name in ("diagonal", "rankone", "full")
    for rule, words in (("", ""), ("-normalised", ", normalised"))
}
DEFAULT = (0.01, 1.0)  # α and β of the constructors
_SETTING = ["lr_schedule", "lr", "alpha", "beta"]
_RATES = ["alpha", "beta"]
_MOST = 5.0  # decades that a diverged run counts as


def write_sensitivity(out: Path) -> str:
    """Write defaults.csv, learning.csv, summary.md and a picture per optimizer; return the text."""
    grid = pd.read_parquet(out / "grid.parquet")
    tables = {"defaults": defaults(grid), "learning": learning(grid)}
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.5g")
    with mpl.rc_context(RC):
        for optimizer, title in TITLES.items():
            part = grid[grid.optimizer == optimizer]
            if len(part):
                _heat_maps(part, title).savefig(out / f"{optimizer}.png")
    shown = (_defaults(tables["defaults"]), _learning(tables["learning"]))
    text = "\n\n".join([verdict(**tables), *map(markdown, shown)])
    write_whole(out / "summary.md", (text + "\n").encode())
    return text


def ends(grid: pd.DataFrame) -> pd.DataFrame:
    """The mean gap over seeds: settings are rows, cases columns; inf where a seed diverged."""
    table: pd.DataFrame = grid.pivot_table(index=_SETTING, columns="problem", values="gap")
    return table


def regret(ends: pd.DataFrame) -> pd.DataFrame:
    """How far each setting ends above the best of the grid, in decades, at most 5."""
    table: pd.DataFrame = (ends - ends.min()).clip(upper=_MOST)
    return table


def defaults(grid: pd.DataFrame) -> pd.DataFrame:
    """What fixed settings lose against the best of each case.

    Returns:
        A row per optimizer: cases, diverged (share of all runs), the fixed setting with the lowest
        mean regret (lr_schedule, lr, alpha, beta) with its mean and largest regret; the same for α
        and β alone, with γ and its schedule the best of each case (tuned_*); and the mean regret of
        the constructors' α and β with such a γ (default_regret).
    """
    rows = []
    for optimizer in TITLES:
        part = grid[grid.optimizer == optimizer]
        if part.empty:
            continue
        lost = regret(ends(part))
        fixed = lost.mean(axis=1)
        by_rates = lost.groupby(level=_RATES).min()
        tuned = by_rates.mean(axis=1)
        setting = dict(zip(_SETTING, _lowest(fixed), strict=True))
        rates = dict(zip(_RATES, _lowest(tuned), strict=True))
        rows.append(
            {
                "optimizer": optimizer,
                "problems": lost.shape[1],
                "diverged": np.isinf(part.gap).mean(),
            }
            | setting
            | {"regret": fixed.min(), "worst": lost.loc[_lowest(fixed)].max()}
            | {f"tuned_{name}": rate for name, rate in rates.items()}
            | {"tuned_regret": tuned.min()}
            | {"default_regret": float(tuned.loc[DEFAULT])}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def learning(grid: pd.DataFrame) -> pd.DataFrame:
    """What learning A adds when everything else is the best of the grid, case by case.

    Returns:
        Columns optimizer, case, with_A (the lowest gap with α > 0), without (with α = 0), gain
        (decades by which the first is lower) and alpha (where it is).
    """
    rows = []
    for optimizer in TITLES:
        part = grid[grid.optimizer == optimizer]
        if part.empty:
            continue
        found = ends(part)
        learned = found[found.index.get_level_values("alpha") > 0]
        plain = found[found.index.get_level_values("alpha") == 0]
        for case in found:
            best = _lowest(learned[case])
            low, reference = learned[case].min(), plain[case].min()
            rows.append(
                {"optimizer": optimizer, "problem": case, "with_A": low, "without": reference}
                | {"gain": reference - low, "alpha": best[_SETTING.index("alpha")]}
            )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _lowest(values: pd.Series[float]) -> Any:
    """The label of the lowest value: a tuple of settings."""
    return values.idxmin()


def verdict(defaults: pd.DataFrame, learning: pd.DataFrame) -> str:
    """What was found, in sentences made from the two tables."""
    sentences = [
        f"{TITLES[row['optimizer']]} with the constructor's α = {DEFAULT[0]:g} and β = "
        f"{DEFAULT[1]:g} ends {row['default_regret']:.2f} decades above the best of each case when "
        f"γ is tuned, and with α = {row['tuned_alpha']:g} and β = {row['tuned_beta']:g} "
        f"{row['tuned_regret']:.2f}."
        for row in defaults.to_dict("records")
        if not row["optimizer"].endswith("-normalised")
    ]
    lowest = learning[["with_A", "without"]].min(axis=1)
    best = learning.assign(best=lowest).pivot_table(
        index="problem", columns="optimizer", values="best", observed=True
    )
    for name in (each for each in best if f"{each}-normalised" in best):
        change = (best[f"{name}-normalised"] - best[name]).dropna()
        sentences.append(
            f"The normalised rate's best setting of {TITLES[str(name)]} ends lower than the plain "
            f"rate's by more than 0.1 decades on {int((change < -0.1).sum())} of {len(change)} "
            f"cases, and higher on {int((change > 0.1).sum())}."
        )
    return " ".join(sentences)


def _defaults(table: pd.DataFrame) -> Cells:
    columns = ["optimizer", "problems", "runs that diverge", "best fixed γ, schedule, α, β"]
    columns += ["decades lost: mean", "worst", "best fixed α, β with γ tuned", "decades lost"]
    columns += ["constructor's α, β with γ tuned: decades lost"]
    rows = [
        [
            TITLES[row["optimizer"]],
            str(row["problems"]),
            f"{100 * row['diverged']:.0f} %",
            f"{row['lr']:g}, {row['lr_schedule']}, {row['alpha']:g}, {row['beta']:g}",
            f"{row['regret']:.2f}",
            f"{row['worst']:.2f}",
            f"{row['tuned_alpha']:g}, {row['tuned_beta']:g}",
            f"{row['tuned_regret']:.2f}",
            f"{row['default_regret']:.2f}",
        ]
        for row in table.to_dict("records")
    ]
    return columns, rows


def _learning(table: pd.DataFrame) -> Cells:
    rows = []
    for optimizer, part in table.groupby("optimizer", sort=False):
        gain = part.gain.replace([np.inf, -np.inf], np.nan)
        rows.append(
            [
                TITLES[str(optimizer)],
                str(len(part)),
                f"{gain.median():+.3f}",
                f"{gain.max():+.2f} ({part.problem[gain.idxmax()]})",
                f"{int((gain > 0.1).sum())}",
                f"{int((gain < -0.1).sum())}",
            ]
        )
    head = ["optimizer", "problems", "decades by learning A: median", "most", "> 0.1", "< −0.1"]
    return head, rows


def _heat_maps(part: pd.DataFrame, title: str) -> Figure:
    """A map per case over α and β: the gap at the best γ; hatched where half of the γ diverge."""
    cases = list(dict.fromkeys(part.problem))
    columns = 7
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(2.3 * columns, 0.8 + 2.2 * rows), dpi=80, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(cases) :]:
        axes.set_visible(False)
    for axes, case in zip(grid, cases, strict=False):
        image = _heat_map(axes, part[part.problem == case], case)
        figure.colorbar(image, ax=axes)
    figure.supxlabel("β")
    figure.supylabel("α")
    figure.suptitle(
        f"{title}: log₁₀ of (F − F*)/(F(0) − F*) at the best γ; hatched where half of all γ diverge"
    )
    return figure


def _heat_map(axes: Any, part: pd.DataFrame, case: str) -> Any:
    table = ends(part)[case].groupby(level=_RATES)
    gap = table.min().unstack("beta")
    unstable = table.agg(lambda gaps: np.isinf(gaps).mean()).unstack("beta") >= 0.5
    image = axes.imshow(gap.replace(np.inf, np.nan), origin="lower", aspect="auto", cmap="viridis")
    for i, j in np.argwhere(unstable.to_numpy()):
        axes.add_patch(
            mpl.patches.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", lw=0)
        )
    axes.set_xticks(range(gap.shape[1]), [f"{b:g}" for b in gap.columns], fontsize=7)
    axes.set_yticks(range(gap.shape[0]), [f"{a:g}" for a in gap.index], fontsize=7)
    axes.set_title(case, fontsize=8)
    axes.grid(False)
    return image
