"""The non-convex rate, measured (the paper's open question 1): ‖∇F‖² against T on deep networks.

Theorem 3.5 bounds the mean of ‖∇F(w_t)‖² over t ≤ T, weighted with γ_t ∝ 1/(t + μ), by O(1/log T).
SGD with γ_t ∝ 1/√t has O(log T/√T). Which of the two a run follows is its slope.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from trainopt import DiagonalTO, InverseTime, Schedule
from trainopt.deep.runner import full_gradient
from trainopt.deep.task import Ready, mean_loss
from trainopt.deep.tasks import TASKS
from trainopt.harness.folder import write_manifest, write_whole, writing
from trainopt.harness.growing import Growing
from trainopt.harness.markdown import Cells, markdown
from trainopt.harness.palette import TITLES
from trainopt.harness.progress import Progress
from trainopt.harness.statistics import half_width

FIRST, ROWS, BATCH, MU = 45, 256, 16, 30.0
SEEDS = range(5)
GAMMA = {"cnn": 0.1, "transformer": 0.3}  # γ at the start
OPTIMIZERS = {"diagonal": 0.01, "alpha0": 0.0}  # Diagonal-TO and its α
SCHEDULES = {"theorem": "γ, α, β ∝ 1/(t + μ)", "root": "γ ∝ 1/√(t + μ)"}


@dataclass(frozen=True)
class InverseRoot(Schedule):
    """γ √(μ/(t + μ))."""

    rate: float
    mu: float

    def __call__(self, t: float | Tensor) -> float | Tensor:
        """Return the rate at step `t`."""
        value: float | Tensor = self.rate * (self.mu / (t + self.mu)) ** 0.5
        return value


def run_nonconvex(steps: int, out: Path, show: bool) -> pd.DataFrame:
    """Run what `out` lacks: every network, optimizer, schedule and seed.

    F is the mean loss over 256 training rows, so that ∇F is exact. One process.

    Args:
        steps: T, at least 150.
        out: folder for run.json and curves.parquet.
        show: draw a progress bar.

    Returns:
        curves.parquet: task, optimizer, schedule, seed, t, rate (γ_t), square (‖∇F(w_t)‖²) and
        mean, the mean of `square` over the steps so far, weighted with γ.

    Raises:
        InputError: data are missing, or `out` holds something else or is in use.
    """
    identity = {"study": "nonconvex", "steps": steps, "seeds": list(SEEDS)}
    with writing(out, "study nonconvex", identity) as kept:
        write_manifest(out, {**identity, **kept})
        keys = ("problem", "optimizer", "schedule", "seed")
        table = Growing(out / "curves.parquet", keys)
        missing = [
            (task, optimizer, schedule, seed)
            for task in GAMMA
            for seed in SEEDS
            for optimizer in OPTIMIZERS
            for schedule in SCHEDULES
            if (task, optimizer, schedule, seed) not in table.there
        ]
        with Progress(len(missing), show) as bar:
            for key in missing:
                new = pd.DataFrame(curve(*key, steps)).assign(**dict(zip(keys, key, strict=True)))
                table.add(new)
                bar.finished(" ".join(map(str, key)))
                bar.counter(1)(1)
    return table.rows


def curve(
    task: str, optimizer: str, schedule: str, seed: int, steps: int
) -> Iterator[dict[str, Any]]:
    """One run: t, rate, square and mean at some 30 steps, evenly on a logarithmic axis."""
    built = _task(task)
    rows = built.train[:ROWS]
    torch.manual_seed(seed)
    model = built.model()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    alpha = OPTIMIZERS[optimizer]
    theorem = schedule == "theorem"
    lr: Schedule = _inverse(GAMMA[task]) if theorem else InverseRoot(GAMMA[task], MU)
    rates: dict[str, Any] = {
        "alpha": _inverse(alpha) if theorem and alpha else alpha,
        "beta": _inverse(1.0) if theorem else 0.1,
    }
    stepper = DiagonalTO([p for _, p in named], lr=lr, **rates)
    watched = set(np.unique(np.geomspace(1, steps, 30).astype(int)).tolist())
    generator = torch.Generator().manual_seed(seed)
    total = weight = 0.0
    before = 0
    for t in range(1, steps + 1):
        if t in watched:
            square = sum(g.square().sum().item() for g in full_gradient(model, named, rows))
            # ‖∇F‖² stands for all steps since the last one that was looked at.
            share = sum(float(lr(step)) for step in range(before, t))
            total, weight, before = total + share * square, weight + share, t
            yield {"t": t, "rate": float(lr(t - 1)), "square": square, "mean": total / weight}
        batch = rows[torch.randint(ROWS, (BATCH,), generator=generator)]
        stepper.zero_grad()
        torch.autograd.backward(mean_loss(model, batch))
        stepper.step()


def _inverse(rate: float) -> InverseTime:
    """From `rate` on, ∝ 1/(t + μ)."""
    return InverseTime(rate * MU, MU)


@lru_cache(maxsize=1)
def _task(name: str) -> Ready:
    return TASKS[name].build("cpu")


def slopes(curves: pd.DataFrame) -> pd.DataFrame:
    """The slope of log(mean) against log T from step 45 on: Student's interval over seeds.

    Returns:
        Columns task, schedule, optimizer, slope, low, high, and logarithmic: the slope that 1/log T
        has over the same steps.
    """
    rows = []
    for key, part in curves.groupby(["problem", "schedule", "optimizer"], sort=False):
        used = part[part.t >= FIRST]
        found = [_slope(run.t, run["mean"]) for _, run in used.groupby("seed")]
        wide, middle = half_width(found), float(np.mean(found))
        t = used.t.unique()
        rows.append(
            dict(zip(("problem", "schedule", "optimizer"), key, strict=True))
            | {"slope": middle, "low": middle - wide, "high": middle + wide}
            | {"logarithmic": _slope(t, 1 / np.log(t))}
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _slope(t: Any, values: Any) -> float:
    return float(np.polyfit(np.log(t), np.log(values), 1)[0])


def write_nonconvex(out: Path) -> str:
    """Write slopes.csv and summary.md from curves.parquet; return the text."""
    table = slopes(pd.read_parquet(out / "curves.parquet"))
    table.to_csv(out / "slopes.csv", index=False, float_format="%.4g")
    text = f"{verdict(table)}\n\n{markdown(cells(table))}\n"
    write_whole(out / "summary.md", text.encode())
    return text


def verdict(table: pd.DataFrame) -> str:
    """Whether the slopes are those of 1/log T, in a sentence per schedule."""
    sentences = []
    for schedule, part in table.groupby("schedule", sort=False):
        steeper = int((part.high < part.logarithmic).sum())
        shallower = int((part.low > part.logarithmic).sum())
        sentences.append(
            f"With {SCHEDULES[str(schedule)]} the slope is steeper than that of 1/log T in "
            f"{steeper} of {len(part)} runs of a network and an optimizer, shallower in "
            f"{shallower}, and can't be told from it in the rest."
        )
    return " ".join(sentences)


def cells(table: pd.DataFrame) -> Cells:
    """The slopes as texts."""
    columns = ["network", "rates", "optimizer", "slope", "95 % interval", "slope of 1/log T"]
    rows = [
        [
            TASKS[row["problem"]].title,
            SCHEDULES[row["schedule"]],
            TITLES[row["optimizer"]],
            f"{row['slope']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['logarithmic']:.2f}",
        ]
        for row in table.to_dict("records")
    ]
    return columns, rows
