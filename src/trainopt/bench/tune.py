"""Tuning: the same number of Optuna trials for every optimizer, on a seed that runs never use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from trainopt.bench.errors import InputError
from trainopt.bench.optimizers import Entry, Settings
from trainopt.bench.problems import Problem
from trainopt.bench.runner import train
from trainopt.bench.secrets import shown, without_secrets

# Final runs have the seeds 0, 1, 2, … Two, since the best of many noisy runs is one with luck.
SEEDS = (10_000, 10_001)


def open_storage(url: str, patience: int = 10) -> Any:
    """Open an Optuna storage, such as sqlite:///file.db or postgresql://user@host/database.

    Args:
        url: of the storage.
        patience: seconds to wait while another process makes the tables of an empty database.

    Raises:
        InputError: the URL can't be used, or nothing answers there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # each database driver raises its own kinds
        reason = " ".join(str(error).split())
        if patience and "already exists" in reason:
            time.sleep(1.0)
            return open_storage(url, patience - 1)
        reason = without_secrets(reason, url)
        raise InputError(
            f"The storage {shown(url)} can't be opened ({reason}): check the URL."
        ) from None  # what the driver says may hold the password


def tune(
    problem: Problem,
    entry: Entry,
    budget: int,
    epochs: int,
    best: float,
    storage: Any,
    on_epochs: Callable[[int], None] = lambda count: None,
) -> Settings:
    """Return the settings with the lowest final suboptimality, over `SEEDS`, in `budget` trials.

    The first trial is `entry.start`, the others come from Optuna's TPE sampler. Finished trials in
    `storage` count, so that an interrupted search goes on and several machines can share one.

    Args:
        problem: what to train.
        entry: the optimizer.
        budget: number of finished trials, at least 1.
        epochs: passes over the data in a trial, as in the final runs.
        best: F*.
        storage: from `open_storage`.
        on_epochs: called with the number of epochs that were finished, or found finished.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=f"{problem.name}-{entry.name}-{epochs}-{problem.fingerprint()[:16]}",
        load_if_exists=True,
    )
    on_epochs(len(SEEDS) * epochs * min(budget, len(_finished(study))))
    while len(done := _finished(study)) < budget:
        if all(trial.params != entry.start for trial in done):
            study.enqueue_trial(entry.start)
        # The seed depends on what is finished only: a resumed search is the uninterrupted one, and
        # the first, random trials try the same learning rates for every optimizer.
        study.sampler = TPESampler(
            seed=SEEDS[0] + len(done), n_startup_trials=min(10, 1 + budget // 2)
        )
        trial = study.ask(fixed_distributions=entry.space)
        try:
            ends = [
                train(problem, entry, trial.params, seed, epochs, best, on_epochs)[-1]
                for seed in SEEDS
            ]
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
        study.tell(trial, _score(sum(end["suboptimality"] for end in ends) / len(ends)))
    return dict(study.best_trial.params)


def _score(suboptimality: float) -> float:
    """log₁₀(F − F*); a diverged run is worse than any other."""
    return math.log10(max(suboptimality, 1e-300)) if math.isfinite(suboptimality) else 300.0


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    trials: list[optuna.trial.FrozenTrial] = study.get_trials(
        deepcopy=False, states=(TrialState.COMPLETE,)
    )
    return trials
