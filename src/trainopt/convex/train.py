"""One run: a problem, an optimizer, its settings and a seed make a table with a row per epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

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
    optimizer, w, read = begun(problem, entry, settings, seed)
    per_epoch = steps_of(problem)
    named = {
        "problem": problem.name,
        "optimizer": entry.name,
        "settings": json.dumps(settings, sort_keys=True),
        "seed": seed,
    }

    def row(epoch: int, seconds: float, error: float) -> Row:
        return {
            **named,
            "step": epoch * per_epoch,
            "epoch": epoch,
            "seconds": seconds,
            **_judged(problem, optimizer, w, best, error),
            "state_bytes": state_bytes(optimizer),
        }

    rows = [row(0, 0.0, math.nan)]
    for done in passes(problem, optimizer, w, read, epochs, settings):
        miss = entry.direction(optimizer, w, done.gradient) - problem.full_gradient(done.before)
        rows.append(row(len(rows), done.seconds, miss.square().sum().item()))
        if not math.isfinite(rows[-1]["train_loss"]):
            break
    for epoch in range(len(rows), epochs + 1):
        rows.append({**rows[-1], "epoch": epoch, "step": epoch * per_epoch})
    return rows


@dataclass(frozen=True, eq=False)
class Pass:
    """What is known at the end of a pass over the data.

    Attributes:
        before: the weights before its last step.
        gradient: the mini-batch gradient of that step.
        seconds: of training since the start.
    """

    before: Tensor
    gradient: Tensor
    seconds: float


class Shuffled:
    """The mini-batches of one pass after another, all rows in random order.

    Args:
        problem: whose rows are read.
        seed: of the order.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        self._generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw the next pass."""
        return iter(self._problem.batches(self._generator))


Read: TypeAlias = Iterable[Tensor] | Iterable[list[int]]
"""The row numbers of each mini-batch of a pass; the next pass when iterated again."""


def begun(
    problem: Problem, entry: Entry, settings: Settings, seed: int
) -> tuple[Optimizer, Tensor, Read]:
    """The optimizer of a run, the weights at their initial point, and how the rows are read."""
    w = problem.initial().requires_grad_()
    chunks = ChunkSampler(problem.n, problem.batch_size, seed=seed) if entry.in_chunks else None
    return entry.build([("w", w)], settings, chunks), w, chunks or Shuffled(problem, seed)


def passes(
    problem: Problem,
    optimizer: Optimizer,
    w: Tensor,
    read: Read,
    count: int,
    settings: Settings | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Pass]:
    """Train; yield after every pass. Every run that isn't one of a batch of runs is this loop.

    Args:
        problem: what to train.
        optimizer: of `w`.
        w: the weights, changed in place.
        read: the rows.
        count: of passes.
        settings: of the optimizer, of which those with a schedule are set at every step.
        clock: in seconds. What reading the rows takes isn't counted.
    """
    per_pass = steps_of(problem)
    schedules = _schedules(settings or {}, per_pass, per_pass * count)
    group = optimizer.param_groups[0]
    seconds, step = 0.0, 0
    for _ in range(count):
        for number, rows in enumerate(map(torch.as_tensor, read), 1):
            last = number == per_pass
            if last:
                before = w.detach().clone()
            start = clock()
            group.update({name: schedule(float(step)) for name, schedule in schedules.items()})
            if "keep_estimate" in group:  # a Trainable Optimizer's
                group["keep_estimate"] = last
            (w.grad,) = torch.autograd.grad(problem.loss(w, rows), w)
            if last:
                gradient = w.grad.clone()  # some optimizers write into it
            optimizer.step()
            seconds += clock() - start
            step += 1
        yield Pass(before, gradient, seconds)


def steps_of(problem: Problem) -> int:
    """The mini-batches of a pass."""
    steps: int = math.ceil(problem.n / problem.batch_size)
    return steps


def _schedules(settings: Settings, per_epoch: int, steps: int) -> dict[str, Schedule]:
    """The rates that change on the way, by name, for a run of so many steps."""
    return {
        rate: SCHEDULES[settings[f"{rate}_schedule"]](settings[rate], per_epoch, steps)
        for rate in ("lr", "beta")
        if f"{rate}_schedule" in settings
    }


def seconds_per_epoch(problem: Problem, entry: Entry, steps: int = 3) -> float:
    """Estimate what an epoch costs from a few steps after the first; builds the optimizer.

    Raises:
        InputError: the optimizer doesn't fit in memory.
    """
    w = problem.initial().requires_grad_()
    chunks = ChunkSampler(problem.n, problem.batch_size) if entry.in_chunks else None
    # A few steps aren't a pass, which a sampler would be watched for.
    optimizer = entry.build([("w", w)], entry.start, None if chunks is None else chunks.plan)
    batch = torch.as_tensor(next(iter(chunks or Shuffled(problem, 0))))

    def step() -> None:
        (w.grad,) = torch.autograd.grad(problem.loss(w, batch), w)
        optimizer.step()

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    middle = time.perf_counter()
    _judged(problem, optimizer, w, 0.0, 0.0)
    problem.full_gradient(w)
    end = time.perf_counter()
    training: float = (middle - start) / steps * steps_of(problem)
    return training + end - middle


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
