"""How much α, β and γ matter to deep tasks: the end of training over a grid of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.deep.protocol import read_protocol
from trainopt.deep.runner import Plan, train
from trainopt.deep.task import Ready
from trainopt.deep.tasks import TASKS
from trainopt.harness.folder import write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.names import BASELINE
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.progress import Progress

# What says most comes first of a task: the paper's α, none, and then the others.
ALPHA = (0.01, 0.0, 0.1, 1e-3, 1.0)
BETA = (0.03, 0.1, 0.3, 1.0)
LR = (0.03, 0.1, 0.3, 1.0, 3.0)
LR_SCHEDULE = "cosine"
SEEDS = (0, 1)
GRID_OPTIMIZERS = ("diagonal", "rankone")
# The cheapest: three that are trained from scratch, and two of fine-tuning.
GRID_TASKS = ("cnn", "transformer", "resnet", "encoder", "llama-lora")
_KEY = ("problem", "optimizer", "alpha", "beta", "seed")


def run_deep_sensitivity(out: Path, show: bool) -> pd.DataFrame:
    """Run what `out` lacks of the grid, and keep each α and β as it is there.

    Every run has the steps and mini-batches of protocols/deep.toml at the CPU size, and γ falls by
    half a cosine. With α = 0 all variants are one, which is run once, as alpha0. One process.

    Args:
        out: folder for run.json and grid.parquet.
        show: draw a progress bar.

    Returns:
        grid.parquet: task, optimizer, lr, lr_schedule, alpha, beta, seed, start (validation loss
        before training), val_loss and train_loss (the latter over the last eighth of the steps);
        inf where the run diverged.

    Raises:
        InputError: a task's data are missing, or `out` holds something else or is in use.
    """
    grid: dict[str, Any] = {"study": "sensitivity-deep", "alpha": sorted(ALPHA)}
    grid |= {"beta": list(BETA), "lr": list(LR)}
    with writing(out, "study sensitivity --deep", grid) as kept:
        write_manifest(out, {**grid, **kept, "seeds": list(SEEDS)})
        table = Growing(out / "grid.parquet", _KEY)
        missing = [piece for piece in _pieces() if piece not in table.there]
        with Progress(len(missing), show) as bar:
            for piece in missing:
                table.add(pd.DataFrame(_ends(*piece)))
                bar.finished(" ".join(map(str, piece)))
                bar.counter(1)(1)
    return table.rows


def _pieces() -> list[tuple[str, str, float, float, int]]:
    return [
        (task, optimizer, alpha, beta, seed)
        for seed in SEEDS
        for task in GRID_TASKS
        for alpha in ALPHA
        for optimizer in (GRID_OPTIMIZERS if alpha else (BASELINE,))
        for beta in BETA
    ]


def _ends(task: str, optimizer: str, alpha: float, beta: float, seed: int) -> list[dict[str, Any]]:
    """A row for every γ."""
    built, plan = opened(task)
    rows = []
    for lr in LR:
        setting = {"lr": lr, "lr_schedule": LR_SCHEDULE, "alpha": alpha, "beta": beta}
        own = {name: setting[name] for name in setting if alpha or name != "alpha"}
        first, *_, last = train(built, built.validation, OPTIMIZERS[optimizer], own, seed, plan)
        ends = {name: last[name] for name in ("val_loss", "train_loss")}
        rows.append(
            {"problem": task, "optimizer": optimizer, **setting, "seed": seed}
            | {"start": first["val_loss"], **ends}
        )
    return rows


@cache
def opened(task: str) -> tuple[Ready, Plan]:
    """A task at the CPU size, and the protocol's plan of its runs, without probes of ∇F.

    It is judged early, which ends what diverged, and twice at the end, for the loss between.

    Raises:
        InputError: its data are missing.
    """
    (budget,) = read_protocol(size="cpu").only([task]).budgets
    first, *_, before, end = budget.plan.marks
    return TASKS[task].build("cpu"), replace(budget.plan, marks=(first, before, end), probes=())
