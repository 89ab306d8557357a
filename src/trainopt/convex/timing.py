"""What a training step costs with the optimizers as a user builds them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from trainopt.convex import train
from trainopt.convex.problems import Problem
from trainopt.convex.secant_runs import STARTS as SECANTS
from trainopt.convex.secant_runs import secant_passes
from trainopt.convex.svrg import SVRG
from trainopt.convex.train import Shuffled, begun, steps_of
from trainopt.harness.optimizers import OPTIMIZERS, Settings

_ROUNDS = 5
_STEPS = 100

# Seconds of this process alone: others on the machine, which take its time, don't count.
clock = time.process_time


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, so that the processor's seconds are those on the wall."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def step_seconds(
    problem: Problem, optimizers: list[str], settings: dict[str, Settings], passes: int
) -> dict[str, float]:
    """The median seconds of a step in one thread, gradient and update together.

    Optimizers take turns, so that all see the machine alike. A turn is as many passes over the data
    as have `_STEPS` steps; of SecantTO, whose steps aren't alike, a run.

    Args:
        problem: the problem.
        optimizers: names of optimizers, "svrg" and those of SecantTO.
        settings: of an optimizer whose steps depend on them, at least.
        passes: of a run.
    """
    few = math.ceil(_STEPS / steps_of(problem))

    def seconds(name: str) -> float:
        if name == "svrg":
            return _svrg(problem, few)
        if name in SECANTS:
            *_, (_, _, done) = secant_passes(
                problem, settings.get(name, {}), 0, passes, clock=clock
            )
            return done.seconds / (passes * steps_of(problem))
        entry = OPTIMIZERS[name]
        optimizer, w, read = begun(problem, entry, entry.start | {"lr": 1e-3}, 0)
        *_, done = train.passes(problem, optimizer, w, read, few, clock=clock)
        return done.seconds / (few * steps_of(problem))

    times: dict[str, list[float]] = {name: [] for name in optimizers}
    with one_thread():
        for _ in range(_ROUNDS):
            for name, found in times.items():
                found.append(seconds(name))
    return {name: float(np.median(found)) for name, found in times.items()}


def _svrg(problem: Problem, passes: int) -> float:
    """The same of SVRG, whose steps take two gradients; without its full gradients."""
    w = problem.initial().requires_grad_()
    svrg, read = SVRG(torch.optim.SGD([w], lr=1e-3)), Shuffled(problem, 0)
    svrg.anchor(lambda: _backward(problem, w, None))
    total, steps = 0.0, 0
    for _ in range(passes):
        for rows in read:
            start = clock()
            svrg.step(partial(_backward, problem, w, rows))
            total, steps = total + clock() - start, steps + 1
    return total / steps


def _backward(problem: Problem, w: torch.Tensor, rows: torch.Tensor | None) -> float:
    w.grad = None
    loss = problem.loss(w, rows)
    torch.autograd.backward(loss)
    return loss.item()
