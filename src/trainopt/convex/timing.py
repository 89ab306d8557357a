"""What a training step costs with the optimizers as a user builds them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from trainopt.convex.problems import Problem
from trainopt.convex.svrg import SVRG
from trainopt.harness.optimizers import OPTIMIZERS

_ROUNDS = 5


def step_seconds(problem: Problem, optimizers: list[str]) -> dict[str, float]:
    """The median seconds of a step, gradient and update together.

    Optimizers take turns, so that all see the machine alike; a round of each lasts about 20 ms.

    Args:
        problem: the problem.
        optimizers: names of optimizers, or "svrg".
    """
    steps = {name: _stepper(problem, name) for name in optimizers}
    counts = {}
    for name, step in steps.items():
        step()
        counts[name] = max(1, min(50, int(0.02 / _seconds(step, 1))))
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            rounds[name].append(_seconds(step, counts[name]))
    return {name: float(np.median(times)) for name, times in rounds.items()}


def _seconds(step: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


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
