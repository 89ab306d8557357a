"""Seconds to a target: SecantTO, the tuned optimizers and the solvers, timed in one process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainopt.convex.batched_steps import METHODS
from trainopt.convex.problems import Problem
from trainopt.convex.protocol import Case
from trainopt.convex.secant_runs import UNTUNED, secant_passes
from trainopt.convex.solvers import solver_rows
from trainopt.convex.tables import Results
from trainopt.convex.timing import clock, one_thread, step_seconds
from trainopt.harness.growing import Growing
from trainopt.harness.outcomes import first_reached
from trainopt.harness.progress import Progress

TARGET = 1e-4  # F − F* is that part of F(0) − F*
_SEEDS = 3  # of SecantTO's timed runs


def run_seconds(convex: Results, out: Path, show: bool) -> None:
    """Time what is missing, and write seconds.parquet: case, optimizer, passes and seconds.

    Both are medians over runs, inf where the target isn't reached. One thread; seconds are those
    of this process, so that a busy machine changes little. The tuned optimizers' passes are those
    of the convex study's runs, at what a step costs here; SecantTO and the solvers run again.
    """
    table = Growing(out / "seconds.parquet", ("problem",))
    cases = [case for case in convex.protocol.cases if case.name in convex.cases]
    missing = [case for case in cases if (case.name,) not in table.there]
    with Progress(len(missing), show) as bar, one_thread():
        for case in missing:
            bar.describe(f"{case.name}: seconds")
            table.add(pd.DataFrame(_rows(convex, case)).assign(problem=case.name))
            bar.counter(1)(1)


def _rows(convex: Results, case: Case) -> Iterator[dict[str, Any]]:
    problem = case.problem()
    best = convex.manifest["problems"][case.name]["best"]
    target = TARGET * (problem.objective(problem.initial()) - best)
    seeds = range(min(_SEEDS, convex.protocol.seeds))
    found = [_secant(problem, seed, case.passes, best, target) for seed in seeds]
    yield {"optimizer": UNTUNED, **_medians(found)}
    names = [name for name in METHODS if name in convex.optimizers]
    costs = step_seconds(problem, names, {}, case.passes)
    runs = convex.runs[
        (convex.runs.problem == case.name) & (convex.runs.budget == convex.protocol.main)
    ]
    steps = math.ceil(problem.n / problem.batch_size)
    for name in names:
        cost = costs[name] * steps / METHODS[name].passes
        own = runs[runs.optimizer == name].sort_values("passes").groupby(["search", "seed"])
        passes = [
            first_reached(run.passes.to_numpy(float), run.suboptimality.to_numpy(float), target)
            for _, run in own
        ]
        yield {"optimizer": name, **_medians([(count, cost * count) for count in passes])}
    solved = pd.DataFrame(solver_rows(problem, case.passes, best))
    for name, rows in solved.groupby("optimizer"):
        ends = [
            _first(
                run.passes.to_numpy(float), run.seconds.to_numpy(float), run.suboptimality, target
            )
            for _, run in rows.groupby("seed")
        ]
        yield {"optimizer": name, **_medians(ends)}


def _secant(
    problem: Problem, seed: int, passes: int, best: float, target: float
) -> tuple[float, float]:
    """Passes and seconds to the target; the judging isn't counted."""
    runs = secant_passes(problem, {}, seed, passes, clock=clock)
    for count, (_, w, done) in enumerate(runs, 1):
        if problem.objective(w) - best <= target:
            return float(count), done.seconds
    return math.inf, math.inf


def _first(passes: Any, seconds: Any, gap: Any, target: float) -> tuple[float, float]:
    gaps = gap.to_numpy(float)
    return first_reached(passes, gaps, target), first_reached(seconds, gaps, target)


def _medians(found: list[tuple[float, float]]) -> dict[str, float]:
    passes, seconds = np.median(np.array(found), axis=0)
    return {"passes": float(passes), "seconds": float(seconds)}


def fastest(table: pd.DataFrame) -> pd.DataFrame:
    """The fastest tuned optimizer of each case.

    Args:
        table: seconds; rows are cases, columns optimizers and solvers; inf where the target isn't
            reached.

    Returns:
        Columns optimizer (None where none reaches the target) and seconds.
    """
    tuned = table[[name for name in METHODS if name in table]]
    least = tuned.min(axis=1)
    names = tuned.idxmin(axis=1).where(np.isfinite(least), None)
    found: pd.DataFrame = pd.DataFrame({"optimizer": names, "seconds": least})
    return found
