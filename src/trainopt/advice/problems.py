"""Every built-in problem, and a model on a file, as something to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainopt.advice.candidates import CANDIDATES
from trainopt.advice.decision import decide
from trainopt.advice.measurements import Measurements, measure
from trainopt.advice.objective import Objective
from trainopt.advice.report import Advice
from trainopt.convex.problems import Problem, build
from trainopt.deep.protocol import Budget, read_protocol
from trainopt.deep.task import Rows, mean_loss, pieces
from trainopt.deep.tasks import TASKS, task_named
from trainopt.errors import InputError, did_you_mean
from trainopt.harness.optimizers import is_hidden_matrix

PASSES = 10.0  # of a linear problem, as `trainopt compare` makes them


@dataclass(frozen=True)
class Built:
    """A problem, built.

    Attributes:
        objective: on as many mini-batches as are measured.
        facts: what `measure` takes besides.
        problem: of a linear problem, the problem itself.
    """

    objective: Objective
    facts: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None

    def measure(self, budget: int) -> Measurements:
        """Measure it, in `budget` mini-batch gradients."""
        return measure(self.objective, **self.facts, budget=budget)


def built(
    name: str,
    passes: float | None,
    budget: int,
    *,
    data: Path | None = None,
    target: str | None = None,
    l2: float = 1e-3,
    batch_size: int | None = None,
) -> Built:
    """Build a problem of `trainopt list` or, with `data`, a model on a file.

    A deep task has its CPU size.

    Raises:
        InputError: as `trainopt.convex.problems.build`; or a deep task is GPU only.
    """
    if name not in TASKS:
        return linear(build(name, data, target, l2, batch_size), passes or PASSES, budget)
    budgets = {each.problem: each for each in read_protocol().budgets}
    if name not in budgets:
        raise InputError(f"{name} has no CPU size: choose another task.")
    if data is not None or batch_size is not None:
        raise InputError(f"{name} is a deep task: leave out --data and --batch-size.")
    return deep(name, passes, budgets[name], budget)


def linear(problem: Problem, passes: float, budget: int) -> Built:
    """A linear problem, at its starting point."""
    w = problem.initial().requires_grad_()
    batches = problem.batches(torch.Generator().manual_seed(0))[:budget]

    def loss(rows: Tensor) -> Tensor:
        return problem.loss(w, rows)

    facts = {
        "passes": passes,
        "rows": problem.n,
        "linear": True,
        "matrices": 0.0,
        "weight_decay": problem.l2,
        "data": True,
        "order": None,
    }
    return Built(Objective([w], loss, batches), facts, problem)


def deep(name: str, passes: float | None, plan: Budget, budget: int) -> Built:
    """A deep task, at the starting point of seed 0."""
    task = task_named(name).build("cpu")
    torch.manual_seed(0)
    model = task.model().train()
    named = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(0))
    size = plan.plan.batch
    count = min(budget, len(order) // size)
    chosen = [task.train[part] for part in pieces(order[: count * size], [size] * count)]
    batches: Sequence[Any] = [(*rows.inputs, rows.targets) for rows in chosen]

    def loss(batch: Any) -> Tensor:
        return mean_loss(model, Rows(tuple(batch[:-1]), batch[-1]))

    weights = sum(p.numel() for _, p in named)
    hidden = sum(p.numel() for key, p in named if is_hidden_matrix(key, p))
    facts = {
        "passes": passes or plan.plan.steps * size / len(task.train),
        "rows": len(task.train),
        "linear": False,
        "matrices": hidden / weights,
        "weight_decay": 0.0,
        "data": True,
        "order": None,
    }
    return Built(Objective([p for _, p in named], loss, batches), facts)


def advise_on(
    name: str,
    passes: float | None,
    *,
    data: Path | None = None,
    target: str | None = None,
    l2: float = 1e-3,
    batch_size: int | None = None,
    budget: int = 100,
    exclude: str = "",
    memory: float | None = None,
    out: Path | None = None,
) -> Advice:
    """The advice for a problem of `trainopt list`, or a model on a file.

    Raises:
        InputError: as `built`; or `exclude` names no optimizer, or leaves none.
    """
    excluded = [each.strip() for each in exclude.split(",") if each.strip()]
    for each in excluded:
        if each not in CANDIDATES:
            hint = did_you_mean(each, CANDIDATES)
            raise InputError(f"--exclude names {each}: {hint}choose among {', '.join(CANDIDATES)}.")
    problem = built(name, passes, budget, data=data, target=target, l2=l2, batch_size=batch_size)
    seen = problem.measure(budget)
    try:
        optimizer, because = decide(seen, exclude=excluded, room=memory)
    except ValueError as error:
        raise InputError(str(error)) from None
    solver = "" if problem.problem is None else _SOLVERS[problem.problem.model.name]
    found = Advice(optimizer, because, seen, name, solver)
    if out is not None:
        found.save(out)
    return found


_SOLVERS = {
    "logistic": "LogisticRegression(solver='newton-cholesky')",
    "softmax": "LogisticRegression(solver='newton-cholesky')",
    "ridge": "Ridge(solver='cholesky')",
    "svm": "LinearSVC(loss='squared_hinge')",
    "huber": "HuberRegressor()",
}
