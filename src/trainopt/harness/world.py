"""What the harness asks of a kind of problems: the contract of the convex and the deep world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import optuna

from trainopt.harness.optimizers import OPTIMIZERS, Row, Settings
from trainopt.harness.search import Search


class Unit(NamedTuple):
    """A problem, an optimizer, and the number of the search: what one process does at once."""

    problem: str
    optimizer: str
    search: int = 0


class World(ABC):
    """A kind of problems, with the protocol of what is run on them. It travels by pickle.

    Attributes:
        command: that makes the results, such as "study deep".
        key: the columns of the tables that a unit has, in its order.
        categories: columns of the table of runs that are stored as categories.
        apart: whether problems are too large to be opened in the process that gives out the work.
    """

    command: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    categories: ClassVar[tuple[str, ...]] = ()
    apart: ClassVar[bool] = False

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of the protocol."""

    @property
    @abstractmethod
    def problems(self) -> tuple[str, ...]:
        """Names of the problems, in the order of the tables."""

    @property
    @abstractmethod
    def seeds(self) -> int:
        """Number of final runs of a unit."""

    @property
    def identity(self) -> dict[str, Any]:
        """What results are of: those of two identities never meet in a folder."""
        return {"protocol": self.digest}

    def about(self) -> dict[str, Any]:
        """What run.json holds besides the problems: the identity, and more."""
        return dict(self.identity)

    def join(self, manifest: dict[str, Any], out: Path) -> None:  # noqa: B027
        """Enter into the manifest of a folder what this protocol adds to what is there.

        Raises:
            InputError: it can't be gone on with.
        """

    def made_with(self) -> dict[str, dict[str, Any]]:
        """More versions, and facts of the machine."""
        return {}

    @abstractmethod
    def facts(self, problem: str) -> dict[str, Any]:
        """What is known of a problem before it is trained.

        Raises:
            InputError: its data are missing; it is skipped.
        """

    @abstractmethod
    def units(self, problem: str) -> list[Unit]:
        """All that is run on a problem; an optimizer on Ĝ after the plain one."""

    def inherits(self, unit: Unit) -> Unit:
        """The unit whose best settings this one takes, such as the plain optimizer's; else itself.

        Both are one process's work.
        """
        entry = OPTIMIZERS.get(unit.optimizer)
        plain = None if entry is None else entry.plain
        return unit if plain is None else unit._replace(optimizer=plain)

    @abstractmethod
    def name(self, unit: Unit) -> str:
        """What the unit's Optuna study is called: results of two protocols never meet."""

    def cost(self, unit: Unit) -> float:
        """About how much work a unit is; the largest go first."""
        return 1.0

    @abstractmethod
    def search(self, unit: Unit) -> Search:
        """How the unit's settings are searched; where the space is empty, they are the start."""

    @abstractmethod
    def scores(self, unit: Unit, facts: dict[str, Any], settings: list[Settings]) -> list[float]:
        """Train with each of the settings, side by side or one by one; the lowest score is best."""

    @abstractmethod
    def finish(
        self,
        unit: Unit,
        facts: dict[str, Any],
        best: Callable[[int], Settings],
        study: optuna.Study,
    ) -> None:
        """Make the final runs that the study's attributes lack, and keep them there.

        Args:
            unit: what to run.
            facts: of the problem.
            best: the best settings of the first so many trials.
            study: the unit's.
        """

    def make_runs(self, study: optuna.Study, make: Callable[[int], list[Row]]) -> None:
        """Make the runs of the seeds that aren't there, one by one, and keep each."""
        there = study.user_attrs  # a copy, every time
        for seed in range(self.seeds):
            if _key(seed) not in there:
                study.set_user_attr(_key(seed), make(seed))

    def is_done(self, study: optuna.Study) -> bool:
        """Whether all final runs are there."""
        there = study.user_attrs
        return all(_key(seed) in there for seed in range(self.seeds))

    def runs(self, study: optuna.Study) -> list[Row]:
        """The rows of a unit's final runs, with a column seed."""
        attrs = study.user_attrs
        return [{"seed": seed, **row} for seed in range(self.seeds) for row in attrs[_key(seed)]]

    def extras(self, manifest: dict[str, Any], out: Path, show: bool) -> None:  # noqa: B027
        """What is measured last, when no other process disturbs the clock."""


def _key(seed: int) -> str:
    return f"run-{seed}"
