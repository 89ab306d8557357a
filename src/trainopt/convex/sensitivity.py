"""How much α, β and γ matter: the end of training over a grid of them, case by case."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainopt.convex.batched import Batched, train_all
from trainopt.convex.conditioning import facts
from trainopt.convex.protocol import Case, sizes, work
from trainopt.errors import InputError
from trainopt.harness.folder import write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.names import NORMALISED
from trainopt.harness.optimizers import Settings
from trainopt.harness.progress import Progress

ALPHA = (0.0, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
BETA = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
LR = (3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SCHEDULES = ("constant", "exponential")
SEEDS = (0, 1)
OPTIMIZERS = (*NORMALISED.values(), *NORMALISED)

MOST_FULL = 200  # weights; beyond, the grid of Full-TO takes hours
_MEMORY = 1e7  # bytes of state that run side by side: more than a cache holds is slower


def run_sensitivity(cases: tuple[Case, ...], out: Path, show: bool) -> pd.DataFrame:
    """Run what `out` lacks of the grid, keep every optimizer's part of a case as it is there.

    Every setting of the grid, at a constant γ and at one that ends at γ/100, on the seeds 0 and 1.
    One process.

    Args:
        cases: of the convex study.
        out: folder for run.json and grid.parquet.
        show: draw a progress bar.

    Returns:
        grid.parquet: case, optimizer, lr, lr_schedule, alpha, beta, seed, and gap, log₁₀ of
        (F − F*)/(F(0) − F*) at the end; inf where the run diverged.

    Raises:
        InputError: `out` holds something else or is in use.
    """
    grid: dict[str, Any] = {"study": "sensitivity", "seeds": list(SEEDS)}
    grid |= {"alpha": list(ALPHA), "beta": list(BETA), "lr": list(LR)}
    with writing(out, "study sensitivity", grid) as kept:
        write_manifest(out, {**grid, **kept})
        table = Growing(out / "grid.parquet", ("problem", "optimizer"))
        with Progress(len(cases), show) as bar:
            for case in sorted(cases, key=_work):
                bar.describe(case.name)
                missing = [name for name in OPTIMIZERS if (case.name, name) not in table.there]
                for name, new in _grids(case, missing):
                    table.add(pd.DataFrame(new))
                    bar.finished(f"{case.name}: {name}")
                bar.counter(1)(1)
    return table.rows


def _work(case: Case) -> float:
    """About how much a case is: the small ones first, so that a part of the study says most."""
    try:
        return work(case, sizes(case))
    except InputError:
        return 0.0


def _grids(case: Case, optimizers: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of each optimizer; nothing for a case whose data are missing."""
    if not optimizers:
        return
    try:
        problem = case.problem()
    except InputError:
        return
    data, best = Batched(problem), facts(case, problem)["best"]
    start = problem.objective(problem.initial()) - best
    for name in optimizers:
        if name.startswith("full") and problem.dim > MOST_FULL:
            continue
        settings = [
            {"lr": lr, "lr_schedule": schedule, "alpha": alpha, "beta": beta}
            | {"beta_schedule": "constant"}
            for schedule, lr, alpha, beta in product(SCHEDULES, LR, ALPHA, BETA)
        ]
        size = _side_by_side(name, problem.dim, case.passes * ceil(problem.n / case.batch))
        rows: list[dict[str, Any]] = []
        for first in range(0, len(settings), size):
            part = settings[first : first + size]
            ends = train_all(data, name, part, SEEDS, case.passes, best, every_epoch=False)
            gaps = np.maximum(ends.suboptimality[:, :, -1], 1e-14) / start
            rows += [
                _row(case.name, name, setting, seed, float(np.log10(gap)))
                for setting, by_seed in zip(part, gaps, strict=True)
                for seed, gap in zip(SEEDS, by_seed, strict=True)
            ]
        yield name, rows


def _row(case: str, optimizer: str, setting: Settings, seed: int, gap: float) -> dict[str, Any]:
    named = {name: setting[name] for name in ("lr", "lr_schedule", "alpha", "beta")}
    return {"problem": case, "optimizer": optimizer, **named, "seed": seed, "gap": gap}


def _side_by_side(optimizer: str, d: int, steps: int) -> int:
    """How many settings are run at once."""
    numbers = min(2 * steps, d) * d if optimizer.startswith("full") else 3 * d
    return max(1, int(_MEMORY / (4 * numbers * len(SEEDS))))
