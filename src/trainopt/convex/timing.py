"""What a training step costs with the optimizers as a user builds them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from trainopt.convex.problems import Problem
from trainopt.convex.secant_runs import STARTS as SECANTS
from trainopt.convex.secant_runs import secant_passes
from trainopt.convex.svrg import SVRG
from trainopt.harness.optimizers import OPTIMIZERS, Settings

_ROUNDS = 5

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

    Optimizers take turns, so that all see the machine alike. A round of each lasts about 20 ms; one
    of SecantTO, whose steps aren't alike, is a run.

    Args:
        problem: the problem.
        optimizers: names of optimizers, "svrg" and those of SecantTO.
        settings: of an optimizer whose steps depend on them, at least.
        passes: of a run.
    """
    steps = {
        name: _secant_run(problem, settings.get(name, {}), passes)
        if name in SECANTS
        else _rounds(_stepper(problem, name))
        for name in optimizers
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    with one_thread():
        for _ in range(_ROUNDS):
            for name, (step, count) in steps.items():
                times[name].append(_seconds(step) / count)
    return {name: float(np.median(found)) for name, found in times.items()}


def _rounds(step: Callable[[], object]) -> tuple[Callable[[], object], int]:
    """A round of steps that are alike, and how many there are."""
    step()
    count = max(1, min(50, int(0.02 / _seconds(step))))

    def steps() -> None:
        for _ in range(count):
            step()

    return steps, count


def _secant_run(
    problem: Problem, settings: Settings, passes: int
) -> tuple[Callable[[], object], int]:
    """A run, and how many steps it has."""

    def run() -> None:
        for _ in secant_passes(problem, settings, 0, passes):
            pass

    return run, passes * math.ceil(problem.n / problem.batch_size)


def _seconds(step: Callable[[], object]) -> float:
    start = clock()
    step()
    return clock() - start


def _stepper(problem: Problem, name: str) -> Callable[[], object]:
    w = problem.initial().requires_grad_()
    rows = problem.batches(torch.Generator().manual_seed(0))[0]
    if name == "svrg":
        svrg = SVRG(torch.optim.SGD([w], lr=1e-3))
        svrg.anchor(lambda: _backward(problem, w, None))
        return partial(svrg.step, lambda: _backward(problem, w, rows))
    entry = OPTIMIZERS[name]
    optimizer = entry.build([("w", w)], entry.start | {"lr": 1e-3})

    def step() -> None:
        _backward(problem, w, rows)
        optimizer.step()

    return step


def _backward(problem: Problem, w: torch.Tensor, rows: torch.Tensor | None) -> float:
    w.grad = None
    loss = problem.loss(w, rows)
    torch.autograd.backward(loss)
    return loss.item()
