"""The deep world: tasks, and how the harness trains them, one run after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
import torch

from trainopt.deep.protocol import Budget, Protocol
from trainopt.deep.runner import train
from trainopt.deep.task import Ready
from trainopt.deep.tasks import TASKS, Size
from trainopt.errors import InputError
from trainopt.harness.optimizers import OPTIMIZERS, Settings
from trainopt.harness.search import Search
from trainopt.harness.world import Unit, World

# Searches draw the same first trials, as far as their spaces agree.
_SEED = 1_000_000
_DIVERGED = 1e6
_VERSIONS = ("transformers", "peft", "lion-pytorch")


@dataclass(frozen=True)
class Deep(World):
    """What the harness asks of deep tasks, see `trainopt.harness.world.World`.

    Attributes:
        protocol: what is run.
        own: a task that isn't in the table, on its device, where the protocol is of that.
    """

    protocol: Protocol
    own: Ready | None = None

    command = "study deep"
    key = ("problem", "optimizer")
    apart = True

    @property
    def digest(self) -> str:
        """Of the protocol."""
        return self.protocol.digest

    @property
    def problems(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.protocol.tasks

    @property
    def seeds(self) -> int:
        """Final runs of an optimizer."""
        return self.protocol.seeds

    def about(self) -> dict[str, Any]:
        """The protocol, what of it is run, and the size of the tasks."""
        return super().about() | {"size": self.protocol.size, **self.protocol.described()}

    def join(self, manifest: dict[str, Any], out: Path) -> None:
        """Enter the tasks, optimizers and seeds."""
        manifest |= self.protocol.joined(manifest)

    def made_with(self) -> dict[str, dict[str, Any]]:
        """Versions of what only deep tasks need, and the device."""
        device = device_of(self.protocol.size)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        return {
            "versions": {name: _version(name) for name in _VERSIONS},
            "machine": {"device": name},
        }

    def facts(self, problem: str) -> dict[str, Any]:
        """Title, description, source of the data, number of weights that are trained, and rows.

        Raises:
            InputError: a part of the task is missing.
        """
        task = self._opened(problem)
        model = task.model()
        entry = TASKS.get(problem)
        known = entry.named(self.protocol.size) if entry is not None else {}
        return {
            **known,
            **task.facts,
            "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "tokens": task.tokens,
            "rows": {
                part: len(getattr(task, part)) for part in ("train", "tune", "validation", "probe")
            },
        }

    def units(self, problem: str) -> list[Unit]:
        """The task's optimizers."""
        return [Unit(problem, name) for name in self._budget(problem).optimizers]

    def name(self, unit: Unit) -> str:
        """What the unit's Optuna study is called."""
        return f"deep/{self.digest[:12]}/{unit.problem}/{unit.optimizer}"

    def search(self, unit: Unit) -> Search:
        """One by one: a trial of a task is long."""
        protocol, name = self.protocol, unit.optimizer
        return Search(
            protocol.spaces[name], protocol.starts[name], protocol.trials, protocol.startup, _SEED
        )

    def scores(self, unit: Unit, facts: dict[str, Any], settings: list[Settings]) -> list[float]:
        """The loss at the end on the rows kept for tuning; a diverged run is worse than any."""
        task, entry = self._opened(unit.problem), OPTIMIZERS[unit.optimizer]
        plan, seed = self._budget(unit.problem).plan.only_end(), self.protocol.tuning_seed
        ends = [train(task, task.tune, entry, each, seed, plan)[-1] for each in settings]
        return [end["val_loss"] if math.isfinite(end["val_loss"]) else _DIVERGED for end in ends]

    def finish(
        self,
        unit: Unit,
        facts: dict[str, Any],
        best: Callable[[int], Settings],
        study: optuna.Study,
    ) -> None:
        """Make the final runs one by one, and keep each."""
        task, entry = self._opened(unit.problem), OPTIMIZERS[unit.optimizer]
        plan, settings = self._budget(unit.problem).plan, best(self.protocol.trials)
        self.make_runs(
            study, lambda seed: train(task, task.validation, entry, settings, seed, plan)
        )

    def _budget(self, problem: str) -> Budget:
        return next(budget for budget in self.protocol.budgets if budget.problem == problem)

    def _opened(self, problem: str) -> Ready:
        return built(problem, self.protocol.size) if self.own is None else self.own


def device_of(size: Size) -> torch.device:
    """Where tasks of a size run.

    Raises:
        InputError: the size is gpu and there is none.
    """
    if size == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("The size gpu needs a CUDA device, and torch sees none: take --size cpu.")
    return torch.device("cuda")


@lru_cache(maxsize=1)
def built(name: str, size: Size) -> Ready:
    """A task of the table, on its device; the last one that was asked for is kept."""
    return TASKS[name].build(size).to(device_of(size))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
