"""The protocol of the deep study: protocols/deep.toml, read, checked and typed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from optuna.distributions import BaseDistribution

from trainopt.deep.runner import Plan
from trainopt.deep.tasks import Size, task_named
from trainopt.errors import InputError
from trainopt.harness.names import optimizers_of
from trainopt.harness.optimizers import OPTIMIZERS, Settings, optimizer_named
from trainopt.harness.protocol_file import (
    Fault,
    at_least_one,
    check,
    check_named,
    digest_of,
    distribution,
    extended,
    protocol_table,
    settings_of,
)

# What this study holds fixed: a rate other than lr is constant, and there is no weight decay, so
# that all optimizers minimise one function.
FIXED = ("beta_schedule", "weight_decay")


@dataclass(frozen=True)
class Budget:
    """What a task's runs are: which optimizers, and how long.

    Attributes:
        problem: name of the task.
        optimizers: names of those that run on it.
        plan: of a final run.
    """

    problem: str
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
        return tuple(budget.problem for budget in self.budgets)

    def described(self) -> dict[str, Any]:
        """What run.json tells of it, from which `again` makes it."""
        budgets = [asdict(budget) for budget in self.budgets]
        return {"budgets": budgets, "trials": self.trials, "seeds": self.seeds}

    def joined(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """What run.json tells once this is run in its folder, too: of all tasks and optimizers.

        Args:
            manifest: of the folder, of this protocol with perhaps other tasks, optimizers, seeds.
        """
        mine = self.described()
        there = {budget["problem"]: budget for budget in manifest.get("budgets", ())}
        for budget in mine["budgets"]:
            old = there.get(budget["problem"], {"optimizers": ()})
            names = dict.fromkeys((*old["optimizers"], *budget["optimizers"]))
            there[budget["problem"]] = {**budget, "optimizers": list(names)}
        seeds = max(self.seeds, manifest.get("seeds", 0))
        return {**mine, "budgets": list(there.values()), "seeds": seeds}

    def again(self, manifest: dict[str, Any]) -> Protocol:
        """The same for the tasks, optimizers and numbers of a folder's run.json."""
        budgets = tuple(
            Budget(b["problem"], tuple(b["optimizers"]), Plan(**b["plan"]))
            for b in manifest["budgets"]
        )
        counts = {name: manifest[name] for name in ("trials", "seeds")}
        return replace(self, budgets=budgets, digest=manifest["protocol"], **counts)

    def planned(self, task: str, rows: int, steps: int, batch: int) -> Protocol:
        """The same with one task alone, and so many steps of it.

        Args:
            task: name of the task; where it isn't in the protocol, all optimizers run on it.
            rows: how many its training rows are.
            steps: of a run.
            batch: rows in a mini-batch.

        Raises:
            InputError: the batch is larger than the rows are many.
        """
        if batch > rows:
            raise InputError(
                f"batch_size is {batch}, and {task} has {rows} training rows: give at most as many."
            )
        names = {budget.problem: budget.optimizers for budget in self.budgets}
        budget = Budget(task, names.get(task, tuple(self.spaces)), Plan.of(steps, batch, 8, 2))
        digest = hashlib.sha256(f"{self.digest}/{steps}/{batch}".encode()).hexdigest()
        return replace(self, budgets=(budget,), digest=digest)

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
        return replace(self, budgets=tuple(b for b in self.budgets if b.problem in tasks))

    def with_counts(
        self, optimizers: Sequence[str] | None, trials: int | None, seeds: int | None
    ) -> Protocol:
        """The same with other optimizers, trials (0 and 1: the start alone) or seeds.

        The baseline is kept, and what the optimizers on Ĝ take their settings from.

        Raises:
            InputError: an optimizer isn't known, or a number is too small.
        """
        asked = None
        if optimizers is not None:
            entries = [optimizer_named(name, "deep") for name in optimizers]
            asked = {e.name for e in entries} | {e.plain for e in entries} | {self.baseline}
        for name, value, least in (("tune", trials, 0), ("seeds", seeds, 1)):
            if value is not None and value < least:
                raise InputError(f"{name} is {value}: give at least {least}.")
        budgets = tuple(
            replace(b, optimizers=tuple(o for o in b.optimizers if asked is None or o in asked))
            for b in self.budgets
        )
        trials = self.trials if trials is None else max(1, trials)
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

    One that `extends` a committed one takes what it doesn't say from that.

    Raises:
        InputError: there is no such file, or something in it is missing or isn't known.
    """
    if size not in get_args(Size):
        raise InputError(f"The size is {size}: give one of {', '.join(get_args(Size))}.")
    with protocol_table(path, "deep") as table:
        if "extends" not in table:
            return _protocol(table, size, quick)
        with protocol_table(None, table.pop("extends")) as base:
            return _protocol(extended(table, base), size, quick)


def _protocol(table: dict[str, Any], size: Size, quick: bool) -> Protocol:
    _check(table)
    tuning, final, tests = table["tuning"], table["final"], table["tests"]
    trials, seeds, part = tuning["trials"], final["seeds"], 1.0
    if quick:
        small = table["quick"]
        trials, seeds, part = small["trials"], small["seeds"], small["part_of_steps"]
    entries = [optimizer_named(name, "deep") for name in table["optimizers"]]
    for name in (tests["reference"], tests["baseline"]):
        if name not in table["optimizers"]:
            raise Fault(f"has {name} in [tests], which is not one of its optimizers: add it there.")
    searched = {
        entry.name: [name for name in entry.settings if name not in FIXED] for entry in entries
    }
    return Protocol(
        size=size,
        budgets=tuple(
            _budget(row, row[size], table["optimizers"], final, part)
            for row in table["problem"]
            if size in row
        ),
        spaces={
            name: {
                setting: distribution(setting, values)
                for setting, values in settings_of(table, "space", name, settings).items()
            }
            for name, settings in searched.items()
        },
        starts={
            name: settings_of(table, "start", name, settings) for name, settings in searched.items()
        },
        trials=trials,
        startup=min(tuning["startup"], trials),
        tuning_seed=tuning["seed"],
        seeds=seeds,
        reference=tests["reference"],
        baseline=tests["baseline"],
        level=tests["level"],
        digest=digest_of(table, size, quick=quick),
    )


def _check(table: dict[str, Any]) -> None:
    """Hold the file to its keys.

    Raises:
        Fault: one is missing, isn't known, or has a value of another kind.
    """
    parts = ("tuning", "final", "tests", "space", "space_of", "start", "start_of", "quick")
    lists = {"optimizers": list, "problem": list}
    check(table, "its top level", lists | dict.fromkeys(parts, dict))
    check(table["tuning"], "[tuning]", {"trials": int, "startup": int, "seed": int})
    check(table["final"], "[final]", {"seeds": int, "marks": int, "probe_every": int})
    tests: dict[str, type] = {"reference": str, "baseline": str, "level": float}
    check(table["tests"], "[tests]", tests, {"measure": str})
    check(table["quick"], "[quick]", {"trials": int, "seeds": int, "part_of_steps": float})
    at_least_one(table["tuning"], "[tuning]", "trials")
    at_least_one(table["final"], "[final]", "seeds", "marks", "probe_every")
    names = optimizers_of("deep")
    settings = {name for known in names for name in OPTIMIZERS[known].settings} - {*FIXED}
    for part, kind in (("space", list), ("start", object)):
        check_named(table[part], f"[{part}]", settings, kind)
        check_named(table[f"{part}_of"], f"[{part}_of]", names, dict)
        for name, own in table[f"{part}_of"].items():
            check_named(own, f"[{part}_of.{name}]", settings, kind)
    for number, row in enumerate(table["problem"], 1):
        where = f"the [[problem]] {row.get('name', number)}"
        sizes: dict[str, type] = dict.fromkeys(get_args(Size), dict)
        check(row, where, {"name": str}, {"leave_out": list, **sizes})
        for size in sizes.keys() & row.keys():
            check(row[size], f"{size} of {where}", {"steps": int, "batch": int})
            at_least_one(row[size], f"{size} of {where}", "steps", "batch")


def _budget(
    row: dict[str, Any],
    size: dict[str, Any],
    optimizers: list[str],
    final: dict[str, Any],
    part: float,
) -> Budget:
    left_out = row.get("leave_out", [])
    for name in left_out:
        optimizer_named(name, "deep")
    steps = max(1, round(part * size["steps"]))
    kept = [name for name in optimizers if name not in left_out]
    for at, name in enumerate(kept):
        plain = OPTIMIZERS[name].plain
        if plain is not None and plain not in kept[:at]:
            raise Fault(
                f"has {name}, which takes its settings from {plain}, which is not before it in the "
                f"optimizers of {row['name']}: add it there, or leave {name} out."
            )
    return Budget(
        problem=task_named(row["name"]).name,
        optimizers=tuple(kept),
        plan=Plan.of(steps, size["batch"], final["marks"], final["probe_every"]),
    )
