"""SecantTO with a part changed or removed, on some cases of the convex study."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from trainopt.convex.problems import Problem
from trainopt.convex.protocol import Case
from trainopt.convex.secant_runs import CHUNKS, sampler, secant_passes
from trainopt.convex.stale import Stale
from trainopt.convex.tables import Results
from trainopt.harness.growing import Growing
from trainopt.harness.outcomes import FLOOR
from trainopt.harness.progress import Progress

CASES = (
    "wine-softmax",
    "vehicle-softmax",
    "digits-softmax",
    "spam-logistic-raw",
    "satellite-softmax",
    "adult-logistic",
)
SEEDS = 5
_RATES = (0.1, 0.3, 1.0)


@dataclass
class Drawn:
    """Batches of rows that are drawn anew every pass, so that no chunk has its rows twice.

    Attributes:
        rows: how many there are.
        batch: rows of a batch.
        seed: of the draws.
        replacement: whether a pass may have a row more than once; otherwise it has each once, as
            from a loader with `shuffle=True`.
    """

    rows: int
    batch: int
    seed: int
    replacement: bool

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the next pass."""
        if self.replacement:
            order = torch.randint(self.rows, (self.rows,), generator=self._generator)
        else:
            order = torch.randperm(self.rows, generator=self._generator)
        yield from (rows.tolist() for rows in torch.split(order, self.batch))


Ends = Callable[[Problem, int, int], float]
"""F at the end, of a problem, a seed and a number of passes."""


def _secant(problem: Problem, seed: int, passes: int, **own: Any) -> float:
    *_, (_, w, _) = secant_passes(problem, own, seed, passes)
    return problem.objective(w)


def _drawn(problem: Problem, seed: int, passes: int, *, replacement: bool) -> float:
    batches = Drawn(problem.n, problem.batch_size, seed, replacement)
    read = sampler(problem, CHUNKS, seed).plan.follow(batches)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that rows don't repeat
        *_, (_, w, _) = secant_passes(problem, {}, seed, passes, read)
    return problem.objective(w)


def _stale(
    problem: Problem, seed: int, passes: int, *, pairs: int, shared: bool, lr: float = 0.3
) -> float:
    read = sampler(problem, CHUNKS, seed)
    optimizer = Stale(read.plan, lr, pairs, shared)
    w = problem.initial()
    for _ in range(passes):
        for rows in read:
            point = w.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(problem.loss(point, torch.tensor(rows)), point)
            w = optimizer.step(w.ravel(), gradient.ravel()).view_as(w)
    return problem.objective(w)


# title -> what is run, one or more of which the best counts
VARIANTS: dict[str, tuple[Ends, ...]] = {
    "K = 1": (partial(_secant, chunks=1),),
    "K = 2": (partial(_secant, chunks=2),),
    "K = 4": (partial(_secant, chunks=4),),
    "K = 8, M = 24, as it is": (_secant,),
    "K = 16": (partial(_secant, chunks=16),),
    "M = 8": (partial(_secant, pairs=8),),
    "M = 12": (partial(_secant, pairs=12),),
    "M = 48": (partial(_secant, pairs=48),),
    "one B for all chunks": (partial(_stale, pairs=24, shared=True),),
    "no B in Ĝ, one in the step": (partial(_stale, pairs=24, shared=False),),
    "no B: SAG of chunks, best of 3 rates": tuple(
        partial(_stale, pairs=0, shared=False, lr=lr) for lr in _RATES
    ),
    "chunks drawn anew every pass": (partial(_drawn, replacement=False),),
    "rows drawn with replacement": (partial(_drawn, replacement=True),),
}


def run_ablations(convex: Results, out: Path, show: bool) -> None:
    """Run what is missing, and write ablations.parquet: case, variant, seed and final."""
    table = Growing(out / "ablations.parquet", ("problem", "variant"))
    cases = [case for case in convex.protocol.cases if case.name in {*CASES} & {*convex.cases}]
    units = [
        (case, variant)
        for case in cases
        for variant in VARIANTS
        if (case.name, variant) not in table.there
    ]
    with Progress(len(units), show) as bar:
        for case, variant in units:
            bar.describe(f"{case.name}: {variant}")
            table.add(pd.DataFrame(_rows(convex, case, variant)))
            bar.counter(1)(1)


def _rows(convex: Results, case: Case, variant: str) -> Iterator[dict[str, Any]]:
    best = convex.manifest["problems"][case.name]["best"]
    problem = case.problem()
    seeds = range(min(SEEDS, convex.protocol.seeds))
    found = [[ends(problem, seed, case.passes) for seed in seeds] for ends in VARIANTS[variant]]
    finals = [[_final(value - best) for value in by_seed] for by_seed in found]
    for seed, final in enumerate(min(finals, key=sum)):
        yield {"problem": case.name, "variant": variant, "seed": seed, "final": final}


def _final(gap: float) -> float:
    return math.log10(max(gap, FLOOR)) if math.isfinite(gap) else math.inf
