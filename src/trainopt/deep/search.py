"""One unit of the study: search one optimizer's settings on one task, and run the best of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import optuna

from trainopt.deep.protocol import Budget, Protocol
from trainopt.deep.runner import Row, train
from trainopt.deep.task import Ready
from trainopt.harness.optimizers import OPTIMIZERS, Settings
from trainopt.harness.search import Search, best_of, finished, run_search

# Searches draw the same first trials, as far as their spaces agree.
_SEED = 1_000_000
_DIVERGED = 1e6


@dataclass(frozen=True)
class Unit:
    """An optimizer on a task."""

    budget: Budget
    optimizer: str

    def study_name(self, protocol: Protocol) -> str:
        """What its Optuna study is called: results of two protocols never meet."""
        return f"deep/{protocol.digest[:12]}/{self.budget.task}/{self.optimizer}"


def run_unit(unit: Unit, protocol: Protocol, task: Ready, storage: Any) -> None:
    """Search, run the best settings on fresh seeds, and keep each result as soon as it is there.

    An optimizer on Ĝ takes the best settings of the plain one, whose search must be finished. What
    the storage holds already isn't computed again, see `run_search`.

    Args:
        unit: what to do.
        protocol: how.
        task: the unit's task, read.
        storage: an Optuna storage, shared with other processes or machines or not.
    """
    study = optuna.create_study(
        storage=storage, study_name=unit.study_name(protocol), load_if_exists=True
    )
    entry, plan = OPTIMIZERS[unit.optimizer], unit.budget.plan
    inherited = _inherited(unit, protocol, storage)
    search = Search(
        protocol.spaces[unit.optimizer],
        protocol.starts[unit.optimizer],
        protocol.trials,
        protocol.startup,
        _SEED,
    )

    def scores(batch: list[Settings]) -> list[float]:
        seed, end = protocol.tuning_seed, plan.only_end()
        runs = [train(task, task.tune, entry, inherited | each, seed, end) for each in batch]
        return [score(rows[-1]["val_loss"]) for rows in runs]

    settings = inherited | run_search(study, search, scores)
    for seed in range(protocol.seeds):
        if _key(seed) not in study.user_attrs:
            rows = train(task, task.validation, entry, settings, seed, plan)
            study.set_user_attr(_key(seed), rows)


def is_done(unit: Unit, protocol: Protocol, storage: Any, known: set[str]) -> bool:
    """Whether all of its runs are in the storage, whose studies are `known`."""
    name = unit.study_name(protocol)
    return name in known and len(final_runs(_load(name, storage), protocol)) == protocol.seeds


def results(unit: Unit, protocol: Protocol, storage: Any) -> tuple[list[dict[str, Any]], list[Row]]:
    """The trials and the rows of all final runs of a finished unit, with its names in each."""
    study = _load(unit.study_name(protocol), storage)
    named = {"task": unit.budget.task, "optimizer": unit.optimizer}
    inherited = _inherited(unit, protocol, storage)
    trials = [
        {**named, "number": number, "score": trial.value, "settings": inherited | trial.params}
        for number, trial in enumerate(finished(study)[: protocol.trials])
    ]
    runs = [
        {**named, "seed": seed, **row}
        for seed, rows in final_runs(study, protocol).items()
        for row in rows
    ]
    return trials, runs


def final_runs(study: optuna.Study, protocol: Protocol) -> dict[int, list[Row]]:
    """The rows of the final runs that are there, by seed."""
    attrs = study.user_attrs
    return {seed: attrs[_key(seed)] for seed in range(protocol.seeds) if _key(seed) in attrs}


def best_settings(study: optuna.Study, protocol: Protocol) -> Settings:
    """The settings of the best of the first `protocol.trials` trials."""
    return best_of(finished(study), protocol.trials)


def _inherited(unit: Unit, protocol: Protocol, storage: Any) -> Settings:
    """The best settings of the plain optimizer, of one that steps along Ĝ."""
    plain = OPTIMIZERS[unit.optimizer].plain
    if plain is None:
        return {}
    study = _load(replace(unit, optimizer=plain).study_name(protocol), storage)
    return best_settings(study, protocol)


def score(loss: float) -> float:
    """The loss; a diverged run is worse than any other."""
    return loss if math.isfinite(loss) else _DIVERGED


def _key(seed: int) -> str:
    return f"run-{seed}"


def _load(name: str, storage: Any) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage)
