"""The strongly convex study: every case, optimizer and search, over several processes."""

from __future__ import annotations

import json
import math
import random
from contextlib import nullcontext
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from trainopt.convex.batched import Batched
from trainopt.convex.batched_steps import METHODS
from trainopt.convex.conditioning import facts
from trainopt.convex.protocol import Case, Protocol
from trainopt.convex.search import Unit, run_unit, study_name
from trainopt.convex.solvers import solver_rows
from trainopt.convex.timing import step_seconds
from trainopt.errors import InputError
from trainopt.harness.folder import claimed, write_whole, writing
from trainopt.harness.processes import shared
from trainopt.harness.progress import Progress
from trainopt.harness.search import finished
from trainopt.harness.sharing import reserved
from trainopt.harness.storage import open_storage, shared_storage


def run_convex(
    protocol: Protocol, out: Path, storage_url: str | None, workers: int, show: bool
) -> None:
    """Run what is missing of the study, and write its tables into `out`.

    The storage keeps every trial and every final run as soon as it is there. Called again after an
    interruption, or by several machines with one storage, nothing is computed twice but what was
    under way.

    Args:
        protocol: what to run.
        out: folder for run.json and the tables runs, trials, solvers and timing (Parquet).
        storage_url: an Optuna storage URL; None keeps a journal in `out`.
        workers: processes on this machine.
        show: draw a progress bar.

    Raises:
        InputError: `out` holds the results of another protocol or is in use, or the storage can't
            be used.
    """
    identity = {"protocol": protocol.digest}
    claimed(out, "study convex", identity)
    if storage_url is not None:
        open_storage(storage_url)
    with writing(out, "study convex", identity) as kept:
        manifest = {**identity, "cases": {}, "skipped": {}, **kept}
        _keep(manifest, out)
        cases = _solved(protocol, manifest, out, show)
        units = [
            (case, optimizer, index)
            for case in cases
            for optimizer in METHODS
            for index in range(case.searches)
        ]
        if not _exported(units, out):
            _search(units, protocol, manifest, out, storage_url, workers, show)
        _measure(cases, manifest, out, show)


def _exported(units: list[Unit], out: Path) -> bool:
    """Whether the tables hold all units already: committed results come without their storage."""
    if not (out / "runs.parquet").exists() or not (out / "trials.parquet").exists():
        return False
    runs = pd.read_parquet(out / "runs.parquet", columns=["case", "optimizer", "search"])
    there = set(runs.drop_duplicates().itertuples(index=False, name=None))
    return all((case.name, optimizer, index) in there for case, optimizer, index in units)


def _search(
    units: list[Unit],
    protocol: Protocol,
    manifest: dict[str, Any],
    out: Path,
    storage_url: str | None,
    workers: int,
    show: bool,
) -> None:
    """Do the units that the storage lacks, and export them all."""
    storage = shared_storage(storage_url, out)
    known = set(optuna.get_all_study_names(storage))
    missing = [unit for unit in units if not _is_done(unit, protocol, storage, known)]
    missing.sort(key=_cost, reverse=True)
    if storage_url is not None:
        # Machines that share a storage rarely meet at a unit.
        random.shuffle(missing)
    with Progress(sum(map(_cost, missing)), show) as bar:
        jobs = (
            (unit, protocol, manifest["cases"][unit[0].name]["best"], storage_url, out)
            for unit in missing
        )
        for unit in shared(_work, list(jobs), workers):
            bar.describe(f"{unit[0].name}: {unit[1]}")
            bar.counter(_cost(unit))(1)
            bar.finished(f"{unit[0].name}: {unit[1]}, search {unit[2]}")
    _export(units, protocol, storage, out)


def _keep(manifest: dict[str, Any], out: Path) -> None:
    write_whole(out / "run.json", (json.dumps(manifest) + "\n").encode())


def _solved(protocol: Protocol, manifest: dict[str, Any], out: Path, show: bool) -> list[Case]:
    """The cases whose data are there, after their facts are in the manifest."""
    cases = []
    with Progress(len(protocol.cases), show) as bar:
        for case in protocol.cases:
            bar.describe(f"{case.name}: optimum")
            if case.name not in manifest["cases"]:
                try:
                    manifest["cases"][case.name] = facts(case, case.problem())
                except InputError as reason:
                    manifest["skipped"][case.name] = str(reason)
                _keep(manifest, out)
            if case.name in manifest["cases"]:
                manifest["skipped"].pop(case.name, None)
                cases.append(case)
            bar.counter(1)(1)
    return cases


def _is_done(unit: Unit, protocol: Protocol, storage: Any, known: set[str]) -> bool:
    name = study_name(unit, protocol)
    return (
        name in known and "final" in optuna.load_study(study_name=name, storage=storage).user_attrs
    )


def _cost(unit: Unit) -> float:
    """About how many seconds a unit costs: the largest go first, so that no core waits."""
    case, optimizer, _ = unit
    size = _sizes(case)
    steps = case.passes * size["n"] / case.batch
    per_step = 2e-4 + 1.2e-9 * case.batch * size["d"] * 16
    if optimizer == "full":
        per_step += 2e-9 * size["d"] * min(steps, 2 * size["d"]) * 8
    return float((case.trials * 2 / 16 + 2) * steps * per_step)


@cache
def _sizes(case: Case) -> dict[str, int]:
    problem = case.problem()
    return {"n": problem.n, "d": problem.dim}


# In the worker processes ----------------------------------------------------------------------

Job = tuple[Unit, Protocol, float, str | None, Path]


@lru_cache(maxsize=2)
def _loaded(case: Case) -> Batched:
    return Batched(case.problem())


@lru_cache(maxsize=1)
def _opened(url: str | None, out: Path) -> Any:
    return shared_storage(url, out)


def _work(job: Job, wait: bool) -> Unit | None:
    unit, protocol, best, url, out = job
    storage = _opened(url, out)
    alone = nullcontext(True)  # the folder is ours, and so is its journal
    with reserved(storage, study_name(unit, protocol), wait) if url is not None else alone as ours:
        if not ours:
            return None
        run_unit(unit, protocol, _loaded(unit[0]), best, storage)
        return unit


# Tables ---------------------------------------------------------------------------------------


def _export(units: list[Unit], protocol: Protocol, storage: Any, out: Path) -> None:
    """Write the tables of all final runs and of all trials."""
    runs: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for unit in units:
        case, optimizer, index = unit
        study = optuna.load_study(study_name=study_name(unit, protocol), storage=storage)
        named = {"case": case.name, "optimizer": optimizer, "search": index}
        for number, trial in enumerate(finished(study)[: case.trials]):
            trials.append(
                {**named, "number": number, "score": trial.value}
                | {"settings": json.dumps(trial.params, sort_keys=True)}
            )
        for budget, final in study.user_attrs["final"].items():
            runs += _rows(final, {**named, "budget": int(budget)})
    table: pd.DataFrame = pd.DataFrame(runs)
    _write(table.astype({"case": "category", "optimizer": "category"}), out / "runs.parquet")
    _write(pd.DataFrame(trials), out / "trials.parquet")


def _rows(final: dict[str, Any], named: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every seed and judged epoch."""
    errors = final["estimator_error"]
    return [
        {
            **named,
            "seed": seed,
            "passes": epoch * final["passes"],
            "suboptimality": float(gap),
            "estimator_error": math.nan if error is None else float(error),
        }
        for seed, gaps in enumerate(final["suboptimality"])
        for epoch, (gap, error) in enumerate(zip(gaps, errors[seed], strict=True))
    ]


def _measure(cases: list[Case], manifest: dict[str, Any], out: Path, show: bool) -> None:
    """Time the steps and run the other solvers: last, when no other process disturbs the clock."""
    solved: list[dict[str, Any]] = []
    timed: list[dict[str, Any]] = []
    for path, rows in ((out / "solvers.parquet", solved), (out / "timing.parquet", timed)):
        if path.exists():
            rows.extend(json.loads(pd.read_parquet(path).to_json(orient="records")))
    there = {row["case"] for row in timed}
    with Progress(len(cases), show) as bar:
        for case in cases:
            bar.describe(f"{case.name}: seconds")
            if case.name not in there:
                problem = case.problem()
                best = manifest["cases"][case.name]["best"]
                solved += [
                    {"case": case.name, **row} for row in solver_rows(problem, case.passes, best)
                ]
                seconds = step_seconds(problem, list(METHODS))
                timed += [
                    {"case": case.name, "optimizer": name, "seconds_per_step": value}
                    for name, value in seconds.items()
                ]
                _write(pd.DataFrame(solved), out / "solvers.parquet")
                _write(pd.DataFrame(timed), out / "timing.parquet")
            bar.counter(1)(1)


def _write(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_parquet(index=False, compression="zstd"))
