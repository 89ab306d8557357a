"""Runs of SecantTO, one by one: its mini-batches come in fixed chunks, in an order of their own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import numpy as np
from torch import Tensor

from trainopt.convex import train
from trainopt.convex.batched import Runs
from trainopt.convex.problems import Problem
from trainopt.convex.train import Pass
from trainopt.harness.optimizers import Settings, secant_estimate
from trainopt.secant import ChunkSampler, SecantTO
from trainopt.secant.plan import Followed

CHUNKS: int = inspect.signature(ChunkSampler).parameters["chunks"].default
UNTUNED, TUNED = "secant", "secant-tuned"

# What is tuned, at its defaults; the untuned one has no settings.
STARTS: dict[str, Settings] = {
    UNTUNED: {},
    TUNED: {"chunks": CHUNKS}
    | {
        name: inspect.signature(SecantTO).parameters[name].default
        for name in ("lr", "first", "scale")
    },
}


def sampler(problem: Problem, chunks: int, seed: int) -> ChunkSampler:
    """The order of the rows in the run of that seed."""
    return ChunkSampler(problem.n, problem.batch_size, chunks, seed=seed)


def train_secant(
    problem: Problem,
    settings: Sequence[Settings],
    seeds: Sequence[int],
    passes: int,
    best: float,
    every_epoch: bool = True,
) -> Runs:
    """Train every setting with every seed, from the problem's initial point.

    Args:
        problem: what to train.
        settings: chunks, and arguments of `SecantTO`; what isn't named is at its default.
        seeds: of the chunks and of the order of the rows.
        passes: over the data.
        best: F*.
        every_epoch: judge after every pass; otherwise at the end only, and the other entries are
            NaN.
    """
    curves = [
        [_curve(problem, own, seed, passes, best, every_epoch) for seed in seeds]
        for own in settings
    ]
    gaps, errors = np.moveaxis(np.array(curves), 3, 0)
    return Runs(1, gaps, errors)


def _curve(
    problem: Problem, settings: Settings, seed: int, passes: int, best: float, every_epoch: bool
) -> list[tuple[float, float]]:
    """F − F* and ‖Ĝ − ∇F‖² after each pass, from the start on."""
    found = [(problem.objective(problem.initial()) - best, math.nan)]
    for epoch, (optimizer, w, done) in enumerate(secant_passes(problem, settings, seed, passes)):
        gap = error = math.nan
        if every_epoch or epoch == passes - 1:
            gap = problem.objective(w) - best
            gap = gap if math.isfinite(gap) else math.inf
        if every_epoch:
            estimate = secant_estimate(optimizer, w, done.gradient)
            miss = estimate - problem.full_gradient(done.before)
            error = miss.square().sum().item() if math.isfinite(gap) else math.inf
        found.append((gap, error))
    return found


def secant_passes(
    problem: Problem,
    settings: Settings,
    seed: int,
    passes: int,
    read: ChunkSampler | Followed | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[tuple[SecantTO, Tensor, Pass]]:
    """Train; after each pass yield the optimizer, the weights, and how the pass ended.

    Args:
        problem: what to train.
        settings: as of `train_secant`.
        seed: of the order of the rows.
        passes: over the data.
        read: that order, where it isn't the `sampler`'s.
        clock: of the seconds of a pass.
    """
    own = dict(settings)
    chunks = own.pop("chunks", CHUNKS)
    read = read or sampler(problem, chunks, seed)
    w = problem.initial().requires_grad_()
    optimizer = SecantTO([w], read, **own)
    for done in train.passes(problem, optimizer, w, read, passes, clock=clock):
        yield optimizer, w, done
