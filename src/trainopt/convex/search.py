"""One unit of the study: search one optimizer's settings on one case, and run the best of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd

from trainopt.convex.batched import Batched, Runs, train_all
from trainopt.convex.protocol import Case, Protocol
from trainopt.convex.secant_runs import STARTS as SECANTS
from trainopt.convex.secant_runs import train_secant
from trainopt.harness.optimizers import Settings
from trainopt.harness.search import Search, best_of, finished, run_search, score

# A search has its own seeds; searches of one number draw the same first trials for all optimizers.
_SEED = 1_000_000

Unit = tuple[Case, str, int]
"""A case, an optimizer, and the number of the search."""


def study_name(unit: Unit, protocol: Protocol) -> str:
    """What a unit's Optuna study is called: results of two protocols never meet."""
    case, optimizer, index = unit
    return f"{protocol.digest[:12]}/{protocol.own[optimizer][:12]}/{case.name}/{optimizer}/{index}"


def run_unit(unit: Unit, protocol: Protocol, data: Batched, best: float, storage: Any) -> None:
    """Search, run the best setting of each budget on fresh seeds, and keep all in the storage.

    What the storage holds already isn't computed again, see `run_search`.

    Args:
        unit: what to do.
        protocol: how.
        data: the case's problem.
        best: F*.
        storage: an Optuna storage, shared with other processes or machines or not.
    """
    case, optimizer, index = unit
    study = optuna.create_study(
        storage=storage, study_name=study_name(unit, protocol), load_if_exists=True
    )
    if "final" in study.user_attrs:
        return
    space = protocol.spaces[optimizer]
    plan = Search(
        space,
        protocol.starts[optimizer],
        case.trials,
        protocol.startup,
        _SEED * (index + 1),
        protocol.at_once,
    )

    def scores(batch: list[Settings]) -> list[float]:
        runs = _trained(data, unit, batch, protocol.tuning_seeds, best, every_epoch=False)
        return [score(float(ends.mean())) for ends in runs.suboptimality[:, :, -1]]

    if space:
        run_search(study, plan, scores)
    final: dict[str, Any] = {}
    for budget in protocol.budgets_of(case):
        chosen = best_of(finished(study), budget) if space else protocol.starts[optimizer]
        same = [old for old in final.values() if old["settings"] == chosen]
        final[str(budget)] = same[0] if same else _final(data, unit, chosen, protocol, best)
    study.set_user_attr("final", final)


def best_settings(trials: pd.DataFrame, case: str, optimizer: str, budget: int) -> list[Settings]:
    """The best settings of each of an optimizer's searches, among its first `budget` trials.

    Args:
        trials: columns case, optimizer, search, number, score and settings (JSON).
        case: its name.
        optimizer: its name.
        budget: a number of trials.
    """
    part = trials[
        (trials.case == case) & (trials.optimizer == optimizer) & (trials.number < budget)
    ]
    best = part.loc[part.groupby("search").score.idxmin()].sort_values("search")
    return [json.loads(settings) for settings in best.settings]


def _final(
    data: Batched, unit: Unit, settings: Settings, protocol: Protocol, best: float
) -> dict[str, Any]:
    runs = _trained(data, unit, [settings], range(protocol.seeds), best)
    return {
        "settings": settings,
        "passes": runs.passes,
        "suboptimality": _listed(runs.suboptimality[0]),
        "estimator_error": _listed(runs.estimator_error[0]),
    }


def _trained(
    data: Batched,
    unit: Unit,
    settings: list[Settings],
    seeds: Sequence[int],
    best: float,
    every_epoch: bool = True,
) -> Runs:
    case, optimizer, _ = unit
    if optimizer in SECANTS:
        return train_secant(data.problem, settings, seeds, case.passes, best, every_epoch)
    return train_all(data, optimizer, settings, seeds, case.passes, best, every_epoch)


def _listed(values: Any) -> Any:
    """Nested lists at float32's precision, with null for NaN and "inf", as JSON in databases."""
    rounded = [[_json(float(f"{value:.7g}")) for value in row] for row in np.asarray(values)]
    return json.loads(json.dumps(rounded))


def _json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"
