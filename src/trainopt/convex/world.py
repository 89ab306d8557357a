"""The convex world: strongly convex problems, and how the harness trains them, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from trainopt.convex.batched import Batched, Runs, train_all
from trainopt.convex.conditioning import facts as facts_of
from trainopt.convex.protocol import Case, Protocol, check_optimizers, sizes
from trainopt.convex.secant_runs import STARTS as SECANTS
from trainopt.convex.secant_runs import train_secant
from trainopt.convex.solvers import solver_rows
from trainopt.convex.tables import best_settings
from trainopt.convex.timing import one_thread, step_seconds
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
    key = ("problem", "optimizer", "search")
    categories = ("problem", "optimizer")

    @property
    def digest(self) -> str:
        """Of the protocol."""
        return self.protocol.digest

    def join(self, manifest: dict[str, Any], out: Path) -> None:
        """Enter the optimizers, those that are there having been searched alike.

        Raises:
            InputError: they were not.
        """
        check_optimizers(manifest, self.protocol, out)
        manifest["optimizers"] = manifest.get("optimizers", {}) | self.protocol.own

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
        protocol, case = self.protocol, self._case(problem)
        return [
            Unit(problem, name, index)
            for name in protocol.spaces
            for index in range(protocol.searches(case, name))
        ]

    def name(self, unit: Unit) -> str:
        """What the unit's Optuna study is called."""
        own = self.protocol.own[unit.optimizer]
        return f"{self.digest[:12]}/{own[:12]}/{unit.problem}/{unit.optimizer}/{unit.search}"

    def cost(self, unit: Unit) -> float:
        """About how many seconds a unit takes."""
        case = self._case(unit.problem)
        size = sizes(case)
        steps = case.passes * size["n"] / case.batch
        if unit.optimizer in SECANTS:
            runs = case.trials * 2 + 24 if SECANTS[unit.optimizer] else 12
            chunk_ends = 16 * case.passes
            return float(runs * (3e-4 * steps + 5e-3 * chunk_ends))
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
        seeds = self.protocol.tuning_seeds
        runs = self._trained(unit, settings, seeds, facts["best"], every_epoch=False)
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
        """Time the steps and run the other solvers.

        An optimizer that joins a study later is timed beside the reference, and counts as so many
        times the reference's step: the clock of another day is another clock.
        """
        solved = _rows(out / "solvers.parquet")
        timed = _rows(out / "timing.parquet")
        trials = pd.read_parquet(out / "trials.parquet")
        cases = [case for case in self.protocol.cases if case.name in manifest["problems"]]
        with Progress(len(cases), show) as bar:
            for case in cases:
                bar.describe(f"{case.name}: seconds")
                known = {
                    row["optimizer"]: row["seconds_per_step"]
                    for row in timed
                    if row["problem"] == case.name
                }
                if any(name not in known for name in self.protocol.spaces):
                    if not known:
                        best = manifest["problems"][case.name]["best"]
                        with one_thread():
                            found = list(solver_rows(case.problem(), case.passes, best))
                        solved += [{"problem": case.name, **row} for row in found]
                    timed += [
                        {"problem": case.name, "optimizer": name, "seconds_per_step": seconds}
                        for name, seconds in self._seconds(case, known, trials).items()
                    ]
                    _write(solved, out / "solvers.parquet")
                    _write(timed, out / "timing.parquet")
                bar.counter(1)(1)

    def _seconds(
        self, case: Case, known: dict[str, float], trials: pd.DataFrame
    ) -> dict[str, float]:
        """Of a step of the optimizers that aren't known, on the clock of those that are."""
        protocol = self.protocol
        missing = [name for name in protocol.spaces if name not in known]
        names = [*missing, *([protocol.reference] if known else [])]
        settings = {
            name: best_settings(trials, case.name, name, protocol.main)[0]
            for name in names
            if protocol.spaces[name]
        }
        seconds = step_seconds(case.problem(), names, settings, case.passes)
        factor = known[protocol.reference] / seconds[protocol.reference] if known else 1.0
        return {name: factor * seconds[name] for name in missing}

    def _case(self, name: str) -> Case:
        return next(case for case in self.protocol.cases if case.name == name)

    def _trained(
        self,
        unit: Unit,
        settings: list[Settings],
        seeds: Sequence[int],
        best: float,
        every_epoch: bool = True,
    ) -> Runs:
        case = self._case(unit.problem)
        data = _loaded(case)
        if unit.optimizer in SECANTS:
            return train_secant(data.problem, settings, seeds, case.passes, best, every_epoch)
        return train_all(data, unit.optimizer, settings, seeds, case.passes, best, every_epoch)

    def _final(self, unit: Unit, settings: Settings, best: float) -> dict[str, Any]:
        runs = self._trained(unit, [settings], range(self.seeds), best)
        return {
            "settings": settings,
            "passes": runs.passes,
            "suboptimality": _listed(runs.suboptimality[0]),
            "estimator_error": _listed(runs.estimator_error[0]),
        }


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


def _rows(path: Path) -> list[dict[str, Any]]:
    """Those of a table, where there is one."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(pd.read_parquet(path).to_json(orient="records"))
    return rows


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    write_whole(path, pd.DataFrame(rows).to_parquet(index=False, compression="zstd"))
