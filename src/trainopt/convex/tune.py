"""Tuning: the same number of Optuna trials for every optimizer, on a seed that runs never use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna

from trainopt.convex.problems import Problem
from trainopt.convex.train import train
from trainopt.harness.optimizers import Entry, Settings
from trainopt.harness.search import Search, finished, run_search, score

# Final runs have the seeds 0, 1, 2, … Two, since the best of many noisy runs is one with luck.
SEEDS = (10_000, 10_001)


def study_name(problem: Problem, entry: Entry, epochs: int, budget: int) -> str:
    """What the Optuna study of a search is called: two different searches never meet."""
    return f"{problem.name}-{entry.name}-{epochs}-{budget}-{problem.fingerprint()[:16]}"


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
    `storage` count, see `run_search`.

    Args:
        problem: what to train.
        entry: the optimizer.
        budget: number of trials, at least 1.
        epochs: passes over the data in a trial, as in the final runs.
        best: F*.
        storage: from `open_storage`.
        on_epochs: called with the number of epochs that were finished, or found finished.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=study_name(problem, entry, epochs, budget),
        load_if_exists=True,
    )
    # One seed for all: the first, random trials try the same learning rates for every optimizer.
    plan = Search(entry.space, entry.start, budget, min(10, 1 + budget // 2), SEEDS[0])
    on_epochs(len(SEEDS) * epochs * len(finished(study)))

    def scores(batch: list[Settings]) -> list[float]:
        found = []
        for settings in batch:
            runs = [
                train(problem, entry, settings, seed, epochs, best, on_epochs) for seed in SEEDS
            ]
            found.append(score(sum(run[-1]["suboptimality"] for run in runs) / len(runs)))
        return found

    return run_search(study, plan, scores)
