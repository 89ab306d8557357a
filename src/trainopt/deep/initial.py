"""Where A and b start in deep tasks: whether anything but zero helps (open question 2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainopt.deep.runner import train
from trainopt.deep.sensitivity import opened
from trainopt.deep.tables import Results
from trainopt.harness.folder import write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.optimizers import OPTIMIZERS, Named, Settings
from trainopt.harness.progress import Progress
from trainopt.harness.starts import REFERENCE, write_starts
from trainopt.optim import TrainableOptimizer

SEEDS = range(10)
LEARNERS = ("diagonal", "rankone")
START_TASKS = ("cnn", "transformer")  # the two cheapest

Start = Callable[[dict[str, Tensor], Tensor], None]
"""Changes the variables of a parameter, which start at the optimizer's own; it has a gradient."""


def run_deep_initial(deep: Results, out: Path, show: bool) -> pd.DataFrame:
    """Run what `out` lacks: every start of both optimizers on the tasks, with 10 seeds.

    Each optimizer has the best settings of its search in the deep study, which starts at zero: what
    is compared is the start alone. Runs are as long as there, at the CPU size. One process.

    Args:
        deep: the study whose settings are taken.
        out: folder for run.json and runs.parquet.
        show: draw a progress bar.

    Returns:
        runs.parquet: task, learner (the optimizer), optimizer (learner and start), seed, val_loss
        and train_loss (over the last eighth of the steps); inf where the run diverged.

    Raises:
        InputError: a task's data are missing, or `out` holds something else or is in use.
    """
    identity = {"study": "init-deep", "deep_protocol": deep.protocol.digest}
    with writing(out, "study init --deep", identity) as kept:
        write_manifest(out, {**identity, "seeds": list(SEEDS), **kept})
        table = Growing(out / "runs.parquet", ("problem", "learner", "seed"))
        missing = [
            piece
            for task in START_TASKS
            for seed in SEEDS
            for learner in LEARNERS
            if (piece := (task, learner, seed)) not in table.there
        ]
        with Progress(len(missing), show) as bar:
            for piece in missing:
                table.add(pd.DataFrame(_runs(deep, *piece)))
                bar.finished(" ".join(map(str, piece)))
                bar.counter(1)(1)
    return table.rows


def _runs(deep: Results, task: str, learner: str, seed: int) -> Iterator[dict[str, Any]]:
    built, plan = opened(task)
    entry, settings = OPTIMIZERS[learner], best_settings(deep.trials, task, learner)
    for name, start in starts(learner).items():

        def make(named: Named, change: Start = start, **own: Any) -> Optimizer:
            optimizer = entry.make(named, **own)
            starting(optimizer, change)
            return optimizer

        last = train(built, built.validation, replace(entry, make=make), settings, seed, plan)[-1]
        yield {
            "problem": task,
            "learner": learner,
            "optimizer": f"{learner}: {name}",
            "seed": seed,
        } | {column: last[column] for column in ("val_loss", "train_loss")}


def best_settings(trials: pd.DataFrame, task: str, optimizer: str) -> Settings:
    """Those of the best trial of an optimizer on a task."""
    own = trials[(trials.problem == task) & (trials.optimizer == optimizer)]
    settings: Settings = json.loads(own.settings[own.score.idxmin()])
    return settings


def write_deep_initial(out: Path) -> str:
    """Write comparison.csv (task by task), starts.csv and summary.md; return the text."""
    return write_starts(out, "val_loss", "nats")


# Starts ---------------------------------------------------------------------------------------


def starting(optimizer: Any, start: Start) -> None:
    """Make a Trainable Optimizer begin at a start, at its first step, when there are gradients."""

    @torch.no_grad()
    def begin(optimizer: TrainableOptimizer, *_: Any) -> None:
        handle.remove()
        for group in optimizer.param_groups:
            for p in group["params"]:
                zero = (*optimizer.form.init(p.detach(), p.numel()), torch.zeros_like(p))
                variables = dict(zip(optimizer.variables, zero, strict=True))
                start(variables, p)
                optimizer.state[p].update(variables)

    handle = optimizer.register_step_pre_hook(begin)


def starts(learner: str) -> dict[str, Start]:
    """The starts of an optimizer by name; the first is its own, zero."""
    found: dict[str, Start] = {
        REFERENCE: lambda variables, p: None,
        **{f"A random, {scale:g}": partial(_random_a, scale) for scale in (0.01, 0.1, 1.0)},
        "b the first mini-batch": _gradient_in_b,
    }
    if learner == "rankone":
        return {**found, "c random": _random_c}
    return {**found, "A identity": _identity}


def _random_a(scale: float, variables: dict[str, Tensor], p: Tensor) -> None:
    variables["a"] += scale * torch.randn_like(p)


def _identity(variables: dict[str, Tensor], p: Tensor) -> None:
    variables["a"] += 1


def _gradient_in_b(variables: dict[str, Tensor], p: Tensor) -> None:
    assert p.grad is not None
    variables["b"] += p.grad


def _random_c(variables: dict[str, Tensor], p: Tensor) -> None:
    """A unit vector of random direction; the optimizer's own is one, too."""
    c = torch.randn_like(p)
    variables["c"].copy_(c / c.norm())
