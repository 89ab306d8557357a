"""Where A and b start: whether anything but zero helps (the paper's open question 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from trainopt.convex.batched import Batched, train_method
from trainopt.convex.batched_steps import METHODS, State
from trainopt.convex.problem import Problem
from trainopt.convex.protocol import Case
from trainopt.convex.sensitivity import MOST_FULL
from trainopt.convex.tables import Results, best_settings
from trainopt.harness.folder import write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.progress import Progress
from trainopt.harness.starts import REFERENCE, write_starts

SEEDS = range(10)
OPTIMIZERS = ("diagonal", "rankone", "full")

Start = Callable[[State, Batched, torch.Generator], None]
"""Changes the state of many runs, which starts at the optimizer's own."""


def run_initial(convex: Results, out: Path, show: bool) -> pd.DataFrame:
    """Run what `out` lacks: every start of every optimizer on the cases, with 10 seeds.

    Each optimizer has the best settings of its first search in the convex study, which starts at
    zero: what is compared is the start alone. One process.

    Args:
        convex: the study whose cases and settings are taken.
        out: folder for run.json and runs.parquet.
        show: draw a progress bar.

    Returns:
        runs.parquet: case, learner (the optimizer), optimizer (learner and start), seed, final
        (log₁₀ of F − F* at the end; inf where the run diverged) and loss (F there).

    Raises:
        InputError: `out` holds something else, or is in use.
    """
    identity = {"study": "init", "convex_protocol": convex.protocol.digest}
    with writing(out, "study init", identity) as kept:
        write_manifest(out, {**identity, "seeds": list(SEEDS), **kept})
        table = Growing(out / "runs.parquet", ("problem", "learner"))
        cases = [case for case in convex.protocol.cases if case.name in convex.cases]
        with Progress(len(cases), show) as bar:
            for case in cases:
                for learner in OPTIMIZERS:
                    if (case.name, learner) not in table.there:
                        table.add(pd.DataFrame(_runs(convex, case, learner)))
                        bar.finished(f"{case.name}: {learner}")
                bar.counter(1)(1)
    return table.rows


def _runs(convex: Results, case: Case, learner: str) -> Iterator[dict[str, Any]]:
    d, n = (convex.manifest["problems"][case.name][name] for name in ("d", "n"))
    if learner == "full" and d > MOST_FULL:
        return
    data, best = Batched(case.problem()), convex.manifest["problems"][case.name]["best"]
    settings = best_settings(convex.trials, case.name, learner, convex.protocol.main)[:1]
    method = METHODS[learner]
    steps = case.passes * ceil(n / case.batch)
    # Where A starts at something it is kept as a matrix, not as the terms of its steps.
    steps = max(steps, 2 * d) if learner == "full" else steps
    for name, start in starts(learner).items():

        def begun(w: Tensor, _: int, change: Start = start) -> State:
            state = method.start(w, steps)
            change(state, data, torch.Generator().manual_seed(7))
            return state

        changed = replace(method, start=begun)
        found = train_method(data, changed, settings, SEEDS, case.passes, best, every_epoch=False)
        for seed, gap in zip(SEEDS, found.suboptimality[0, :, -1], strict=True):
            yield {
                "problem": case.name,
                "learner": learner,
                "optimizer": f"{learner}: {name}",
                "seed": seed,
                "final": float(np.log10(max(gap, 1e-14))),
                "loss": best + float(gap),
            }


def write_initial(out: Path) -> str:
    """Write comparison.csv (case by case), starts.csv and summary.md; return the text."""
    return write_starts(out, "final", "decades")


# Starts ---------------------------------------------------------------------------------------


def starts(learner: str) -> dict[str, Start]:
    """The starts of an optimizer by name; the first is its own, zero."""
    A = {"diagonal": "a", "full": "A", "rankone": "a"}[learner]

    def random(scale: float) -> Start:
        def change(state: State, data: Batched, generator: torch.Generator) -> None:
            noise = torch.randn(state[A].shape, generator=generator)
            state[A] += scale * noise / state[A].shape[-1] ** (0.5 if A == "A" else 0)

        return change

    found: dict[str, Start] = {
        REFERENCE: lambda state, data, generator: None,
        **{f"A random, {scale:g}": random(scale) for scale in (0.01, 0.1, 1.0)},
        "b the full gradient": _gradient_in_b,
        "b the first mini-batch": _batch_in_b,
    }
    if learner == "rankone":
        return {**found, "c random": _random_c}
    return {**found, "A identity": _identity, "A the Hessian's diagonal": _hessian_diagonal}


def _gradient_in_b(state: State, data: Batched, generator: torch.Generator) -> None:
    """Ĝ is exact at w₀ where A w₀ = 0, as w₀ = 0 makes it."""
    w = data.problem.initial().reshape(1, -1)
    state["b"] += data.full_gradient(w).float()


def _batch_in_b(state: State, data: Batched, generator: torch.Generator) -> None:
    """What momentum without correction of its bias starts at, when its buffer takes g as it is."""
    w = data.problem.initial().reshape(1, -1).repeat(len(SEEDS), 1)
    rows = data.orders([torch.Generator().manual_seed(seed) for seed in SEEDS])
    state["b"] += data.gradient(rows[:, : data.problem.batch_size])(w)


def _identity(state: State, data: Batched, generator: torch.Generator) -> None:
    if "A" in state:
        state["A"] += torch.eye(state["A"].shape[-1])
    else:
        state["a"] += 1


def _hessian_diagonal(state: State, data: Batched, generator: torch.Generator) -> None:
    diagonal = hessian_diagonal(data.problem, generator)
    if "A" in state:
        state["A"] += diagonal.diag()
    else:
        state["a"] += diagonal


def _random_c(state: State, data: Batched, generator: torch.Generator) -> None:
    c = torch.randn(state["c"].shape, generator=generator)
    state["c"] = c / c.norm(dim=1, keepdim=True)


def hessian_diagonal(problem: Problem, generator: torch.Generator, draws: int = 100) -> Tensor:
    """Hutchinson's estimate of diag ∇²F(w₀), float32 (d,): the mean of v ∘ Hv over random signs v.

    Costs `draws` products with the Hessian.
    """
    with torch.enable_grad():
        w = problem.initial().double().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(w), w, create_graph=True)
        total = torch.zeros_like(w)
        for _ in range(draws):
            v = torch.randint(2, w.shape, generator=generator).double() * 2 - 1
            (product,) = torch.autograd.grad(gradient, w, v, retain_graph=True)
            total += v * product
    return (total / draws).float().ravel().detach()
