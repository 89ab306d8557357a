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

from trainopt.bench.errors import InputError
from trainopt.bench.folder import claimed, write_whole, writing
from trainopt.bench.progress import Progress
from trainopt.bench.search import finished
from trainopt.bench.sharing import reserved
from trainopt.bench.tune import open_storage
from trainopt.study.batched import Batched
from trainopt.study.facts import facts
from trainopt.study.processes import shared
from trainopt.study.protocol import Case, Protocol, check_optimizers
from trainopt.study.search import Unit, best_settings, run_unit, study_name
from trainopt.study.secant_runs import STARTS as SECANTS
from trainopt.study.solvers import solver_rows
from trainopt.study.storage import shared_storage
from trainopt.study.timing import one_thread, step_seconds


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
        manifest = {**identity, "optimizers": {}, "cases": {}, "skipped": {}, **kept}
        check_optimizers(manifest, protocol, out)
        manifest["optimizers"] |= protocol.own
        _keep(manifest, out)
        cases = _solved(protocol, manifest, out, show)
        units = [
            (case, optimizer, index)
            for case in cases
            for optimizer in protocol.spaces
            for index in range(protocol.searches(case, optimizer))
        ]
        exported = _exported(out)
        rest = [unit for unit in units if (unit[0].name, *unit[1:]) not in exported]
        if rest:
            _search(rest, protocol, manifest, out, storage_url, workers, show)
        _measure(cases, protocol, manifest, out, show)


def _exported(out: Path) -> set[tuple[str, str, int]]:
    """The units that the tables hold already: committed results come without their storage."""
    if not (out / "runs.parquet").exists() or not (out / "trials.parquet").exists():
        return set()
    runs = pd.read_parquet(out / "runs.parquet", columns=["case", "optimizer", "search"])
    return set(runs.drop_duplicates().itertuples(index=False, name=None))


def _search(
    units: list[Unit],
    protocol: Protocol,
    manifest: dict[str, Any],
    out: Path,
    storage_url: str | None,
    workers: int,
    show: bool,
) -> None:
    """Do the units that the storage lacks, and add them all to the tables."""
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
    if optimizer in SECANTS:
        runs = case.trials * 2 + 24 if SECANTS[optimizer] else 12
        chunk_ends = 16 * case.passes
        return float(runs * (3e-4 * steps + 5e-3 * chunk_ends))
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


# What tells units apart, and the columns of trials, of which an untuned optimizer has none.
_UNIT = ("case", "optimizer", "search")
_TRIALS = (*_UNIT, "number", "score", "settings")


# Tables ---------------------------------------------------------------------------------------


def _export(units: list[Unit], protocol: Protocol, storage: Any, out: Path) -> None:
    """Add the units' final runs and trials to the tables; what these hold stays as it is."""
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
    # Trials first: the runs say what is there.
    _write(_added(trials, out / "trials.parquet"), out / "trials.parquet")
    table = _added(runs, out / "runs.parquet")
    _write(table.astype({"case": "category", "optimizer": "category"}), out / "runs.parquet")


def _added(rows: list[dict[str, Any]], path: Path) -> pd.DataFrame:
    """The table at `path`, where there is one, with these rows after those of its other units."""
    new: pd.DataFrame = pd.DataFrame(rows, columns=None if rows else _TRIALS)
    if not path.exists():
        return new
    before = pd.read_parquet(path).astype({"case": str, "optimizer": str})
    units, own = (pd.MultiIndex.from_frame(table[[*_UNIT]]) for table in (before, new))
    pieces = [table for table in (before[~units.isin(own)], new) if len(table)]
    joined: pd.DataFrame = pd.concat(pieces, ignore_index=True) if pieces else new
    return joined


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


def _measure(
    cases: list[Case], protocol: Protocol, manifest: dict[str, Any], out: Path, show: bool
) -> None:
    """Time the steps and run the other solvers: last, when no other process disturbs the clock.

    An optimizer that joins a study later is timed beside the reference, and counts as so many times
    the reference's step: the clock of another day is another clock.
    """
    solved: list[dict[str, Any]] = []
    timed: list[dict[str, Any]] = []
    for path, rows in ((out / "solvers.parquet", solved), (out / "timing.parquet", timed)):
        if path.exists():
            rows.extend(json.loads(pd.read_parquet(path).to_json(orient="records")))
    trials = pd.read_parquet(out / "trials.parquet")
    with Progress(len(cases), show) as bar:
        for case in cases:
            bar.describe(f"{case.name}: seconds")
            there = {
                row["optimizer"]: row["seconds_per_step"]
                for row in timed
                if row["case"] == case.name
            }
            missing = [name for name in protocol.spaces if name not in there]
            if missing:
                problem = case.problem()
                if not there:
                    best = manifest["cases"][case.name]["best"]
                    with one_thread():
                        found = list(solver_rows(problem, case.passes, best))
                    solved += [{"case": case.name, **row} for row in found]
                names = [*missing, *([protocol.reference] if there else [])]
                settings = {
                    name: best_settings(trials, case.name, name, protocol.main)[0]
                    for name in names
                    if protocol.spaces[name]
                }
                seconds = step_seconds(problem, names, settings, case.passes)
                reference = protocol.reference
                factor = there[reference] / seconds[reference] if there else 1.0
                timed += [
                    {
                        "case": case.name,
                        "optimizer": name,
                        "seconds_per_step": factor * seconds[name],
                    }
                    for name in missing
                ]
                _write(pd.DataFrame(solved), out / "solvers.parquet")
                _write(pd.DataFrame(timed), out / "timing.parquet")
            bar.counter(1)(1)


def _write(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_parquet(index=False, compression="zstd"))
