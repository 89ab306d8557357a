"""A comparison of one linear problem: a study of it, whose protocol is what `compare` is given."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from trainopt.convex.comparison_report import write_report
from trainopt.convex.optimum import Optimum, optimum
from trainopt.convex.problems import Problem, build
from trainopt.convex.train import seconds_per_epoch, train
from trainopt.errors import InputError
from trainopt.harness.folder import Folder, claimed
from trainopt.harness.names import DEFAULT
from trainopt.harness.optimizers import OPTIMIZERS, WITHOUT_A, Entry, Settings, chosen
from trainopt.harness.run import exported, run
from trainopt.harness.search import Search, score
from trainopt.harness.world import Unit, World

# Final runs have the seeds 0, 1, 2, … Two, since the best of many noisy runs is one with luck.
TUNING_SEEDS = (10_000, 10_001)
_ENTRIES = OPTIMIZERS | {entry.name: entry for entry in WITHOUT_A.values()}


def compare(
    problem: str,
    optimizers: str | list[str] | tuple[str, ...] = DEFAULT,
    *,
    epochs: int = 10,
    seeds: int = 5,
    tune: int = 16,
    out: str | Path | None = None,
    data: str | Path | None = None,
    target: str | None = None,
    l2: float = 1e-3,
    batch_size: int | None = None,
    storage: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """`trainopt.compare` of a linear problem, with every optimizer under one tuning budget.

    An optimizer that learns A is run a second time over the same seeds with A removed (α = 0) and
    its own tuned settings otherwise: that difference is what learning A adds.

    Returns:
        One row per optimizer, see `trainopt.harness.statistics.final_table`.

    Raises:
        InputError: something given can't be used; the sentence says what, and what to do.
    """
    entries = chosen(optimizers)
    for name, value, least in (("epochs", epochs, 1), ("seeds", seeds, 1), ("tune", tune, 0)):
        if value < least:
            raise InputError(f"{name} is {value}: give at least {least}.")
    built = build(problem, data, target, l2, batch_size)
    try:
        best = optimum(built)
    except RuntimeError as error:
        raise InputError(f"{error} Give a larger l2, or rescale the columns.") from error
    world = Linear(built, best, tuple(entries), epochs, tune, seeds)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _compared(world, Path(folder), storage, progress)
    return _compared(world, Path(out), storage, progress)


def _compared(world: Linear, out: Path, storage: str | None, show: bool) -> pd.DataFrame:
    manifest = claimed(out, world.command, world.identity) or {}
    if "tuned" in manifest and not set(world.units(world.problem.name)) <= exported(world, out):
        raise InputError(
            f"{out} was made by an older version, which didn't keep its searches as this one does: "
            "give another folder with --out."
        )
    _ = world.seconds  # the last check, which builds every optimizer
    # In this process, one by one: their seconds are compared.
    run(world, out, storage, workers=0, show=show)
    return write_report(Folder.load(out))


@dataclass(frozen=True)
class Linear(World):
    """What the harness asks of a comparison of one linear problem, see `World`.

    Attributes:
        problem: what is trained.
        best: its optimum.
        entries: the optimizers; those that learn A are run without it, too.
        epochs: passes over the data in a trial or a final run.
        trials: of every optimizer; 0 takes the starting settings as they are.
        final: number of final runs.
    """

    problem: Problem
    best: Optimum
    entries: tuple[Entry, ...]
    epochs: int
    trials: int
    final: int

    command = "compare"
    key = ("problem", "optimizer")

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a number."""
        return {
            "problem": self.problem.name,
            "epochs": self.epochs,
            "tune": self.trials,
            "l2": self.problem.l2,
            "batch_size": self.problem.batch_size,
            "fingerprint": self.problem.fingerprint(),
        }

    @cached_property
    def digest(self) -> str:
        """Of the identity."""
        return hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()

    @property
    def problems(self) -> tuple[str, ...]:
        """The one problem."""
        return (self.problem.name,)

    @property
    def seeds(self) -> int:
        """Final runs of an optimizer."""
        return self.final

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What an epoch of every optimizer costs.

        Raises:
            InputError: an optimizer doesn't fit in memory.
        """
        return {
            unit.optimizer: seconds_per_epoch(self.problem, _ENTRIES[unit.optimizer])
            for unit in self.units(self.problem.name)
        }

    def about(self) -> dict[str, Any]:
        """What the report says of the problem."""
        problem = self.problem
        return {
            "identity": self.identity,
            "title": f"{problem.model.title} on {problem.dataset.source}",
            "n": problem.n,
            "dim": problem.dim,
            "optimum": {"value": self.best.value, "gradient_norm": self.best.gradient_norm},
        }

    def facts(self, problem: str) -> dict[str, Any]:
        """None but those of the identity."""
        return {}

    def units(self, problem: str) -> list[Unit]:
        """Every optimizer, and where it learns A itself without A."""
        return [
            Unit(problem, entry.name)
            for tuned in self.entries
            for entry in (tuned, WITHOUT_A.get(tuned.name))
            if entry is not None
        ]

    def inherits(self, unit: Unit) -> Unit:
        """One without A takes the settings that were found with it."""
        tuned = [name for name, entry in WITHOUT_A.items() if entry.name == unit.optimizer]
        return unit._replace(optimizer=tuned[0]) if tuned else unit

    def name(self, unit: Unit) -> str:
        """What the unit's Optuna study is called."""
        return f"compare/{self.digest[:12]}/{unit.problem}/{unit.optimizer}"

    def cost(self, unit: Unit) -> float:
        """About how many seconds a unit takes."""
        runs = len(TUNING_SEEDS) * self.search(unit).trials + self.seeds
        return self.seconds[unit.optimizer] * self.epochs * runs

    def search(self, unit: Unit) -> Search:
        """One seed for all: the first, random trials try the same rates for every optimizer."""
        entry = _ENTRIES[unit.optimizer]
        if self.inherits(unit) != unit:
            return Search({}, {}, 0, 0, 0)
        if self.trials == 0 or not entry.space:
            return Search({}, entry.start, 0, 0, 0)
        startup = min(10, 1 + self.trials // 2)
        return Search(entry.space, entry.start, self.trials, startup, TUNING_SEEDS[0])

    def scores(self, unit: Unit, facts: dict[str, Any], settings: list[Settings]) -> list[float]:
        """log₁₀ of the mean of F − F* at the end over the tuning seeds."""
        found = []
        for each in settings:
            runs = [self._train(unit, each, seed) for seed in TUNING_SEEDS]
            found.append(score(sum(run[-1]["suboptimality"] for run in runs) / len(runs)))
        return found

    def finish(
        self,
        unit: Unit,
        facts: dict[str, Any],
        best: Callable[[int], Settings],
        study: optuna.Study,
    ) -> None:
        """Make the final runs one by one, and keep each."""
        found, space = best(self.trials), _ENTRIES[unit.optimizer].space
        settings = {name: found[name] for name in space}
        self.make_runs(study, lambda seed: self._train(unit, settings, seed))

    def _train(self, unit: Unit, settings: Settings, seed: int) -> list[dict[str, Any]]:
        entry = _ENTRIES[unit.optimizer]
        return train(self.problem, entry, settings, seed, self.epochs, self.best.value)
