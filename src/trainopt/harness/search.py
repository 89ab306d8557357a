"""The search that every comparison uses, which no interruption changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, takewhile

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from trainopt.harness.optimizers import Settings

_NUMBER = "number"
_DIVERGED = 300.0


@dataclass(frozen=True)
class Search:
    """How settings are searched with Optuna's TPE sampler.

    Attributes:
        space: what is searched.
        start: the first trial.
        trials: how many there are.
        startup: so many of them are random.
        seed: the sampler of trial i has seed + i, where i is the first of its batch.
        at_once: trials in a batch.
    """

    space: dict[str, BaseDistribution]
    start: Settings
    trials: int
    startup: int
    seed: int
    at_once: int = 1

    def batch(self, done: list[FrozenTrial]) -> list[Settings]:
        """What the next trials try after `done`, some whole batches.

        The sampler sees finished trials only, in a study of its own: whatever was interrupted
        leaves nothing behind.
        """
        sampler = TPESampler(seed=self.seed + len(done), n_startup_trials=self.startup)
        study = optuna.create_study(sampler=sampler)
        study.add_trials(done)
        if not done:
            study.enqueue_trial(self.start)
        size = min(self.at_once, self.trials - len(done))
        return [dict(study.ask(fixed_distributions=self.space).params) for _ in range(size)]


def run_search(
    study: optuna.Study, plan: Search, scores: Callable[[list[Settings]], list[float]]
) -> Settings:
    """Do the trials that `study` lacks, and return the best settings.

    A trial is one write, when it is finished, with its number. It depends on the finished ones of
    the batches before only. So a search that is stopped at any moment and resumed has the trials
    of an uninterrupted one, and processes that are at it together make the same trials, of each of
    which the first counts. A batch that was stopped between its writes is computed again.

    Args:
        study: in any Optuna storage.
        plan: how to search.
        scores: a score for each of a batch's settings; the lowest is best. A function of them.
    """
    while len(done := finished(study)) < plan.trials:
        first = len(done) // plan.at_once * plan.at_once
        batch = plan.batch(done[:first])
        found = scores(batch)
        for number in range(len(done), first + len(batch)):
            study.add_trial(
                optuna.trial.create_trial(
                    params=batch[number - first],
                    distributions=plan.space,
                    value=found[number - first],
                    user_attrs={_NUMBER: number},
                )
            )
    return best_of(done, plan.trials)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials by their numbers; those of older versions have the order's."""
    trials: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        trials.setdefault(trial.user_attrs.get(_NUMBER, len(trials)), trial)
    return [trials[number] for number in takewhile(trials.__contains__, count())]


def best_of(trials: list[FrozenTrial], budget: int) -> Settings:
    """The settings of the best of the first `budget` trials."""
    return dict(min(trials[:budget], key=lambda trial: trial.value or 0.0).params)


def score(suboptimality: float) -> float:
    """log₁₀(F − F*); a diverged run is worse than any other."""
    if not math.isfinite(suboptimality):
        return _DIVERGED
    return math.log10(max(suboptimality, 1e-300))
