"""The protocol of the deep study: protocols/deep.toml, read, checked and typed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from trainopt.deep.optimizers import OPTIMIZERS, Entry, optimizer_named
from trainopt.deep.runner import Plan
from trainopt.deep.schedules import SCHEDULES
from trainopt.deep.tasks import Size, task_named
from trainopt.errors import InputError, did_you_mean
from trainopt.harness.optimizers import Settings
from trainopt.harness.protocol_file import digest_of, protocol_table


@dataclass(frozen=True)
class Budget:
    """What a task's runs are: which optimizers, and how long.

    Attributes:
        task: name of the task.
        optimizers: names of those that run on it.
        plan: of a final run.
    """

    task: str
    optimizers: tuple[str, ...]
    plan: Plan


@dataclass(frozen=True)
class Protocol:
    """What the study runs, and how its results are judged; see protocols/deep.toml.

    Attributes:
        size: of all tasks.
        budgets: one for each task, in the order of the runs.
        spaces, starts: for every optimizer, what is searched, and its first trial.
        trials, startup, tuning_seed: of the search.
        seeds: number of final runs.
        reference, baseline: optimizers that all are compared with.
        level: of the tests.
        digest: SHA-256 in hex of all that decides a number.
    """

    size: Size
    budgets: tuple[Budget, ...]
    spaces: dict[str, dict[str, BaseDistribution]]
    starts: dict[str, Settings]
    trials: int
    startup: int
    tuning_seed: int
    seeds: int
    reference: str
    baseline: str
    level: float
    digest: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(budget.task for budget in self.budgets)

    def only(self, tasks: Sequence[str]) -> Protocol:
        """The same for some of the tasks.

        Raises:
            InputError: a task isn't known, or has no budget at this size.
        """
        for name in tasks:
            task_named(name)
            if name not in self.tasks:
                raise InputError(
                    f"{name} has no budget for the size {self.size} in the protocol: choose some "
                    f"of {', '.join(self.tasks)}, or another --size."
                )
        return replace(self, budgets=tuple(b for b in self.budgets if b.task in tasks))

    def with_counts(
        self, optimizers: Sequence[str] | None, trials: int | None, seeds: int | None
    ) -> Protocol:
        """The same with other optimizers, trials or seeds.

        The baseline is kept, and what the optimizers on Ĝ take their settings from.

        Raises:
            InputError: an optimizer isn't known, or a number is too small.
        """
        wanted = None
        if optimizers is not None:
            entries = [optimizer_named(name) for name in optimizers]
            wanted = {e.name for e in entries} | {e.plain for e in entries} | {self.baseline}
        for name, value in (("tune", trials), ("seeds", seeds)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give at least 1.")
        budgets = tuple(
            replace(b, optimizers=tuple(o for o in b.optimizers if wanted is None or o in wanted))
            for b in self.budgets
        )
        trials = self.trials if trials is None else trials
        counts = f"{self.digest}/{trials}"
        return replace(
            self,
            budgets=budgets,
            trials=trials,
            startup=min(self.startup, trials),
            seeds=self.seeds if seeds is None else seeds,
            digest=hashlib.sha256(counts.encode()).hexdigest(),
        )


def read_protocol(path: Path | None = None, *, size: Size = "cpu", quick: bool = False) -> Protocol:
    """Read a protocol, the committed one by default, for one size; with `quick`, its small version.

    Raises:
        InputError: there is no such file, or something in it is missing or isn't known.
    """
    if size not in get_args(Size):
        raise InputError(f"The size is {size}: give one of {', '.join(get_args(Size))}.")
    with protocol_table(path, "deep") as table:
        return _protocol(table, size, quick)


def _protocol(table: dict[str, Any], size: Size, quick: bool) -> Protocol:
    tuning, final, tests = table["tuning"], table["final"], table["tests"]
    trials, seeds, part = tuning["trials"], final["seeds"], 1.0
    if quick:
        small = table["quick"]
        trials, seeds, part = small["trials"], small["seeds"], small["part_of_steps"]
    entries = [optimizer_named(name) for name in table["optimizers"]]
    for name in (tests["reference"], tests["baseline"]):
        optimizer_named(name)
    return Protocol(
        size=size,
        budgets=tuple(
            _budget(row, row[size], table["optimizers"], final, part)
            for row in table["task"]
            if size in row
        ),
        spaces={entry.name: _space(table, entry) for entry in entries},
        starts={entry.name: _start(table, entry) for entry in entries},
        trials=trials,
        startup=min(tuning["startup"], trials),
        tuning_seed=tuning["seed"],
        seeds=seeds,
        reference=tests["reference"],
        baseline=tests["baseline"],
        level=tests["level"],
        digest=digest_of(table, size, quick=quick),
    )


def _budget(
    row: dict[str, Any],
    size: dict[str, Any],
    optimizers: list[str],
    final: dict[str, Any],
    part: float,
) -> Budget:
    left_out = row.get("leave_out", [])
    for name in left_out:
        optimizer_named(name)
    for name in ("steps", "batch"):
        if size[name] < 1:
            raise InputError(f"{row['name']} has {name} = {size[name]}: give at least 1.")
    steps = max(1, round(part * size["steps"]))
    kept = [name for name in optimizers if name not in left_out]
    for at, name in enumerate(kept):
        plain = OPTIMIZERS[name].plain
        if plain is not None and plain not in kept[:at]:
            raise InputError(
                f"{name} takes its settings from {plain}, which is not before it in the optimizers "
                f"of {row['name']}: add it there, or leave {name} out."
            )
    return Budget(
        task=task_named(row["name"]).name,
        optimizers=tuple(kept),
        plan=Plan.of(steps, size["batch"], final["marks"], final["probe_every"]),
    )


def _space(table: dict[str, Any], entry: Entry) -> dict[str, BaseDistribution]:
    ranges = table["space"] | table["space_of"].get(entry.name, {})
    return {setting: _distribution(setting, ranges[setting]) for setting in entry.settings}


def _start(table: dict[str, Any], entry: Entry) -> Settings:
    starts = table["start"] | table["start_of"].get(entry.name, {})
    return {setting: starts[setting] for setting in entry.settings}


def _distribution(name: str, values: list[Any]) -> BaseDistribution:
    if name == "lr_schedule":
        for value in values:
            if value not in SCHEDULES:
                hint = did_you_mean(str(value), SCHEDULES)
                raise InputError(
                    f"There is no schedule {value}: {hint}choose some of {', '.join(SCHEDULES)}."
                )
        return CategoricalDistribution(values)
    low, high = values
    if not 0 < low < high:
        raise InputError(f"The range of {name} is {values}: give two numbers, 0 < low < high.")
    return FloatDistribution(low, high, log=True)
