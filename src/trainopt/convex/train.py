"""One run: a problem, an optimizer, its settings and a seed make a table with a row per epoch."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainopt.convex.problems import Problem
from trainopt.harness.memory_use import state_bytes
from trainopt.harness.optimizers import SCHEDULES, Entry, Row, Settings
from trainopt.schedules import Schedule
from trainopt.secant import ChunkSampler

# Rows of a run that diverged: what these columns hold from then on.
_DIVERGED = {
    "train_loss": math.inf,
    "suboptimality": math.inf,
    "estimator_error": math.inf,
    "val_loss": math.inf,
    "val_accuracy": math.nan,
}


def train(
    problem: Problem,
    entry: Entry,
    settings: Settings,
    seed: int,
    epochs: int,
    best: float,
) -> list[Row]:
    """Train from the problem's initial point; return a row for the start and one per epoch.

    The seed decides the order of the data and nothing else, so that runs of different optimizers
    with one seed see the same mini-batches; but for those that read the data in chunks.

    Args:
        problem: what to train.
        entry: the optimizer.
        settings: a value for everything in `entry.space`.
        seed: of the order of the data.
        epochs: passes over the data.
        best: F*, which `suboptimality` is measured from.

    Returns:
        Rows with the columns problem, optimizer, settings (JSON), seed, step, epoch, seconds (of
        training, without the evaluation), train_loss (F over all training rows), suboptimality
        (F − F*), estimator_error (‖Ĝ − ∇F‖² at the epoch's last step; NaN at the start), val_loss,
        val_accuracy (NaN for a regression) and state_bytes. When the objective is no longer
        finite, the run has diverged: losses and errors are inf from there on.
    """
    w = problem.initial().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    chunks = ChunkSampler(problem.n, problem.batch_size, seed=seed) if entry.in_chunks else None
    optimizer = entry.build([("w", w)], settings, chunks)
    per_epoch = math.ceil(problem.n / problem.batch_size)
    schedules = schedules_of(settings, per_epoch, per_epoch * epochs)
    named = {
        "problem": problem.name,
        "optimizer": entry.name,
        "settings": json.dumps(settings, sort_keys=True),
        "seed": seed,
    }
    rows: list[Row] = []
    step, seconds, error = 0, 0.0, math.nan
    for epoch in range(epochs + 1):
        batches = _pass(problem, generator, chunks) if epoch > 0 else []
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            before = w.detach().clone() if last else None
            start = time.perf_counter()
            rates = {name: schedule(float(step)) for name, schedule in schedules.items()}
            group = optimizer.param_groups[0]
            group.update(rates)
            if "keep_estimate" in group:  # a Trainable Optimizer's
                group["keep_estimate"] = last
            gradient = _step(problem, optimizer, w, batch)
            seconds += time.perf_counter() - start
            step += 1
            if before is not None:
                miss = entry.direction(optimizer, w, gradient) - problem.full_gradient(before)
                error = miss.square().sum().item()
        rows.append(
            {
                **named,
                "step": step,
                "epoch": epoch,
                "seconds": seconds,
                **_judged(problem, optimizer, w, best, error),
                "state_bytes": state_bytes(optimizer),
            }
        )
        if not math.isfinite(rows[-1]["train_loss"]):
            break
    for epoch in range(len(rows), epochs + 1):
        rows.append({**rows[-1], "epoch": epoch, "step": epoch * per_epoch})
    return rows


def schedules_of(settings: Settings, per_epoch: int, steps: int) -> dict[str, Schedule]:
    """The rates that change on the way, by name, for a run of so many steps."""
    return {
        rate: SCHEDULES[settings[f"{rate}_schedule"]](settings[rate], per_epoch, steps)
        for rate in ("lr", "beta")
        if f"{rate}_schedule" in settings
    }


def _pass(
    problem: Problem, generator: torch.Generator, chunks: ChunkSampler | None
) -> list[Tensor]:
    """The mini-batches of a pass."""
    if chunks is None:
        return problem.batches(generator)
    return [torch.tensor(rows) for rows in chunks]


def seconds_per_epoch(problem: Problem, entry: Entry, steps: int = 3) -> float:
    """Estimate what an epoch costs from a few steps after the first; builds the optimizer.

    Raises:
        InputError: the optimizer doesn't fit in memory.
    """
    w = problem.initial().requires_grad_()
    chunks = ChunkSampler(problem.n, problem.batch_size) if entry.in_chunks else None
    # A few steps aren't a pass, which a sampler would be watched for.
    optimizer = entry.build([("w", w)], entry.start, None if chunks is None else chunks.plan)
    batch = _pass(problem, torch.Generator().manual_seed(0), chunks)[0]
    _step(problem, optimizer, w, batch)
    start = time.perf_counter()
    for _ in range(steps):
        _step(problem, optimizer, w, batch)
    middle = time.perf_counter()
    _judged(problem, optimizer, w, 0.0, 0.0)
    problem.full_gradient(w)
    end = time.perf_counter()
    training: float = (middle - start) / steps * math.ceil(problem.n / problem.batch_size)
    return training + end - middle


def _step(problem: Problem, optimizer: Optimizer, w: Tensor, batch: Tensor) -> Tensor:
    """Take a step; return the gradient as it was before, since some optimizers write into it."""
    optimizer.zero_grad()
    (gradient,) = torch.autograd.grad(problem.loss(w, batch), w)
    w.grad = gradient.clone()
    optimizer.step()
    return gradient


def _judged(
    problem: Problem, optimizer: Optimizer, w: Tensor, best: float, error: float
) -> dict[str, float]:
    # Schedule-free optimizers train at one point and are judged at another.
    averages: Any = optimizer if hasattr(optimizer, "eval") else None
    if averages is not None:
        averages.eval()
    loss = problem.objective(w)
    val_loss, val_accuracy = problem.validate(w)
    if averages is not None:
        averages.train()
    if not math.isfinite(loss):
        return _DIVERGED
    return {
        "train_loss": loss,
        "suboptimality": loss - best,
        "estimator_error": error,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
    }
