"""The convex world: strongly convex problems, and how the harness trains them, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from trainopt.convex.batched import Batched, train_all
from trainopt.convex.batched_steps import METHODS
from trainopt.convex.conditioning import facts as facts_of
from trainopt.convex.protocol import Case, Protocol
from trainopt.convex.solvers import solver_rows
from trainopt.convex.timing import step_seconds
from trainopt.harness.folder import write_whole
from trainopt.harness.optimizers import Row, Settings
from trainopt.harness.progress import Progress
from trainopt.harness.search import Search, score
from trainopt.harness.world import Unit, World

# A search has its own seeds; searches of one number draw the same first trials for all optimizers.
_SEED = 1_000_000


@dataclass(frozen=True)
class Convex(World):
    """What the harness asks of convex problems, see `World`.

    Attributes:
        protocol: what is run.
    """

    protocol: Protocol

    command = "study convex"
    key = ("case", "optimizer", "search")
    categories = ("case", "optimizer")

    @property
    def digest(self) -> str:
        """Of the protocol."""
        return self.protocol.digest

    @property
    def problems(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(case.name for case in self.protocol.cases)

    @property
    def seeds(self) -> int:
        """Final runs of a search."""
        return self.protocol.seeds

    def facts(self, problem: str) -> dict[str, Any]:
        """The optimum, the spectrum, and the size of the data.

        Raises:
            InputError: the data aren't there.
        """
        case = self._case(problem)
        return {**facts_of(case, case.problem())}

    def units(self, problem: str) -> list[Unit]:
        """Every optimizer with every search."""
        searches = range(self._case(problem).searches)
        return [Unit(problem, name, index) for name in METHODS for index in searches]

    def name(self, unit: Unit) -> str:
        """What the unit's Optuna study is called."""
        return f"{self.digest[:12]}/{unit.problem}/{unit.optimizer}/{unit.search}"

    def cost(self, unit: Unit) -> float:
        """About how many seconds a unit takes."""
        case = self._case(unit.problem)
        size = _sizes(case)
        steps = case.passes * size["n"] / case.batch
        per_step = 2e-4 + 1.2e-9 * case.batch * size["d"] * 16
        if unit.optimizer == "full":
            per_step += 2e-9 * size["d"] * min(steps, 2 * size["d"]) * 8
        return float((case.trials * 2 / 16 + 2) * steps * per_step)

    def search(self, unit: Unit) -> Search:
        """Some trials at once, which are trained side by side."""
        protocol = self.protocol
        return Search(
            protocol.spaces[unit.optimizer],
            protocol.starts[unit.optimizer],
            self._case(unit.problem).trials,
            protocol.startup,
            _SEED * (unit.search + 1),
            protocol.at_once,
        )

    def scores(self, unit: Unit, facts: dict[str, Any], settings: list[Settings]) -> list[float]:
        """log₁₀ of the mean of F − F* at the end over the tuning seeds."""
        case, seeds = self._case(unit.problem), self.protocol.tuning_seeds
        runs = train_all(
            _loaded(case),
            unit.optimizer,
            settings,
            seeds,
            case.passes,
            facts["best"],
            every_epoch=False,
        )
        return [score(float(ends.mean())) for ends in runs.suboptimality[:, :, -1]]

    def finish(
        self,
        unit: Unit,
        facts: dict[str, Any],
        best: Callable[[int], Settings],
        study: optuna.Study,
    ) -> None:
        """Run the best settings of each budget, all seeds at once."""
        final: dict[str, Any] = {}
        for budget in self.protocol.budgets_of(self._case(unit.problem)):
            chosen = best(budget)
            same = [old for old in final.values() if old["settings"] == chosen]
            final[str(budget)] = same[0] if same else self._final(unit, chosen, facts["best"])
        study.set_user_attr("final", final)

    def is_done(self, study: optuna.Study) -> bool:
        """Whether the final runs, which are kept together, are there."""
        return "final" in study.user_attrs

    def runs(self, study: optuna.Study) -> list[Row]:
        """A row for every budget, seed and judged epoch."""
        return [
            {
                "budget": int(budget),
                "seed": seed,
                "passes": epoch * final["passes"],
                "suboptimality": float(gap),
                "estimator_error": math.nan if error is None else float(error),
            }
            for budget, final in study.user_attrs["final"].items()
            for seed, (gaps, errors) in enumerate(
                zip(final["suboptimality"], final["estimator_error"], strict=True)
            )
            for epoch, (gap, error) in enumerate(zip(gaps, errors, strict=True))
        ]

    def extras(self, manifest: dict[str, Any], out: Path, show: bool) -> None:
        """Time the steps and run the other solvers."""
        solved: list[dict[str, Any]] = []
        timed: list[dict[str, Any]] = []
        for path, rows in ((out / "solvers.parquet", solved), (out / "timing.parquet", timed)):
            if path.exists():
                rows.extend(json.loads(pd.read_parquet(path).to_json(orient="records")))
        there = {row["case"] for row in timed}
        cases = [case for case in self.protocol.cases if case.name in manifest["cases"]]
        with Progress(len(cases), show) as bar:
            for case in cases:
                bar.describe(f"{case.name}: seconds")
                if case.name not in there:
                    problem = case.problem()
                    best = manifest["cases"][case.name]["best"]
                    found = solver_rows(problem, case.passes, best)
                    solved += [{"case": case.name, **row} for row in found]
                    timed += [
                        {"case": case.name, "optimizer": name, "seconds_per_step": seconds}
                        for name, seconds in step_seconds(problem, list(METHODS)).items()
                    ]
                    _write(solved, out / "solvers.parquet")
                    _write(timed, out / "timing.parquet")
                bar.counter(1)(1)

    def _case(self, name: str) -> Case:
        return next(case for case in self.protocol.cases if case.name == name)

    def _final(self, unit: Unit, settings: Settings, best: float) -> dict[str, Any]:
        case = self._case(unit.problem)
        runs = train_all(
            _loaded(case), unit.optimizer, [settings], range(self.seeds), case.passes, best
        )
        return {
            "settings": settings,
            "passes": runs.passes,
            "suboptimality": _listed(runs.suboptimality[0]),
            "estimator_error": _listed(runs.estimator_error[0]),
        }


@cache
def _sizes(case: Case) -> dict[str, int]:
    problem = case.problem()
    return {"n": problem.n, "d": problem.dim}


@lru_cache(maxsize=2)
def _loaded(case: Case) -> Batched:
    return Batched(case.problem())


def _listed(values: Any) -> Any:
    """Nested lists at float32's precision, with null for NaN and "inf", as JSON in databases."""
    rounded = [[_json(float(f"{value:.7g}")) for value in row] for row in np.asarray(values)]
    return json.loads(json.dumps(rounded))


def _json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    write_whole(path, pd.DataFrame(rows).to_parquet(index=False, compression="zstd"))
