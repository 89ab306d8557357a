"""One run: a problem, an optimizer, its settings and a seed make a table with a row per mark."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from trainopt.scientific.optimizers import OPTIMIZERS, Run, Settings
from trainopt.scientific.problem import Problem

Row = dict[str, Any]


def train(
    problem: Problem,
    optimizer: str,
    settings: Settings,
    seed: int,
    passes: int,
    chunks: int,
    marks: int,
) -> list[Row]:
    """Train from the seed's first weights for a number of passes.

    Args:
        problem: what is minimised.
        optimizer: a name of `OPTIMIZERS`.
        settings: what it takes.
        seed: of the weights and of the order of the rows.
        passes: of the run. L-BFGS and BFGS end a step later, by a few.
        chunks: mini-batches of a pass.
        marks: how often the run is judged.

    Returns:
        A row for the start and for each mark, or the first step after it: passes, seconds (of the
        process, without the judging), loss over all rows, and error, the relative L2 error. When
        the loss is no longer finite, the run has diverged: both are inf from there on.
    """
    network = problem.network(seed)
    steps = OPTIMIZERS[optimizer](Run(problem, network, seed, passes, chunks), **settings)
    rows: list[Row] = []
    done, seconds = 0, 0.0
    while True:
        if done >= passes * len(rows) / marks:
            with torch.no_grad():
                loss, error = problem.loss(network).item(), problem.error(network)
            if not math.isfinite(loss):
                loss = error = math.inf
            rows.append({"passes": done, "seconds": seconds, "loss": loss, "error": error})
            if done >= passes:
                return rows
            if loss == math.inf:
                return [*rows, {**rows[-1], "passes": passes}]
        start = time.process_time()
        done = next(steps)
        seconds += time.process_time() - start
