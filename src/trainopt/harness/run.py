"""The run loop of every study: units over processes, one storage, and tables as problems finish."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from trainopt.errors import InputError
from trainopt.harness.folder import claimed, write_whole, writing
from trainopt.harness.optimizers import Settings
from trainopt.harness.processes import shared, spread
from trainopt.harness.progress import Progress
from trainopt.harness.search import best_of, finished, run_search
from trainopt.harness.sharing import reserved
from trainopt.harness.storage import open_storage, shared_storage
from trainopt.harness.world import Unit, World


def run(world: World, out: Path, storage_url: str | None, workers: int, show: bool) -> None:
    """Run what is missing, and write the tables into `out`.

    The storage keeps every trial and every final run as soon as it is there. Called again after an
    interruption, or by several machines with one storage, nothing is computed twice but what was
    under way. The tables are written after every problem, so that a part of a study is a result.

    Args:
        world: what to run.
        out: folder for run.json and the tables runs and trials (Parquet), and the world's extras.
        storage_url: an Optuna storage URL; None keeps a journal in `out`.
        workers: processes on this machine; 0 does the work in this one.
        show: draw a progress bar.

    Raises:
        InputError: `out` holds the results of another protocol or is in use, or the storage can't
            be used.
    """
    identity = world.identity
    claimed(out, world.command, identity)
    if storage_url is not None:
        open_storage(storage_url)
    with writing(out, world.command, identity, **world.made_with()) as kept:
        manifest = {**world.about(), "problems": {}, "skipped": {}, **kept}
        world.join(manifest, out)
        _keep(manifest, out)
        _describe(world, manifest, out, workers, show)
        units = _units(world, manifest)
        there = exported(world, out)
        missing = [unit for unit in units if unit not in there]
        if missing:
            storage = shared_storage(storage_url, out)
            done = _done(world, missing, storage)
            missing = [unit for unit in missing if unit not in done]
            try:
                _work_off(world, missing, manifest, out, storage_url, storage, workers, show)
            finally:
                _export(world, units, storage, out)
        world.extras(manifest, out, show)


def export(world: World, out: Path, storage_url: str | None) -> None:
    """Write the tables of all finished units.

    Raises:
        InputError: `out` holds nothing of this protocol.
    """
    manifest = claimed(out, world.command, world.identity)
    if manifest is not None:
        _export(world, _units(world, manifest), shared_storage(storage_url, out), out)


def run_unit(world: World, unit: Unit, facts: dict[str, Any], storage: Any) -> None:
    """Search, run the best settings on fresh seeds, and keep each result as soon as it is there.

    What takes the settings of another unit comes after it. What the storage holds already isn't
    computed again, see `run_search`.

    Args:
        world: how.
        unit: what to do.
        facts: of its problem.
        storage: an Optuna storage, shared with other processes or machines or not.
    """
    study = _study(world, unit, storage)
    if world.is_done(study):
        return
    plan, inherited = world.search(unit), {}
    if (other := world.inherits(unit)) != unit:
        # Its runs may be in the tables, and its search not in the storage.
        _search(world, other, {}, facts, storage)
        inherited = _inherited(world, unit, storage)
    _search(world, unit, inherited, facts, storage)

    def best(budget: int) -> Settings:
        return inherited | (best_of(finished(study), budget) if plan.space else plan.start)

    world.finish(unit, facts, best, study)


def _search(
    world: World, unit: Unit, inherited: Settings, facts: dict[str, Any], storage: Any
) -> None:
    """Make the trials that are missing."""
    plan = world.search(unit)

    def scores(batch: list[Settings]) -> list[float]:
        return world.scores(unit, facts, [inherited | each for each in batch])

    if plan.space:
        run_search(_study(world, unit, storage), plan, scores)


def _study(world: World, unit: Unit, storage: Any) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name=world.name(unit), load_if_exists=True)


def tables_of(
    world: World, unit: Unit, storage: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The trials and the rows of all final runs of a finished unit, with its names in each."""
    study = optuna.load_study(study_name=world.name(unit), storage=storage)
    named = dict(zip(world.key, unit, strict=False))
    inherited, plan = _inherited(world, unit, storage), world.search(unit)
    trials = [
        {**named, "number": number, "score": trial.value}
        | {"settings": json.dumps(inherited | trial.params, sort_keys=True)}
        for number, trial in enumerate(finished(study)[: plan.trials])
    ]
    return trials, [{**named, **row} for row in world.runs(study)]


def _inherited(world: World, unit: Unit, storage: Any) -> Settings:
    """The best settings of the unit that this one takes them from."""
    other = world.inherits(unit)
    if other == unit:
        return {}
    plan = world.search(other)
    if not plan.space:
        return plan.start
    study = optuna.load_study(study_name=world.name(other), storage=storage)
    return best_of(finished(study), plan.trials)


def _units(world: World, manifest: dict[str, Any]) -> list[Unit]:
    there = manifest["problems"]
    return [unit for name in world.problems if name in there for unit in world.units(name)]


def _keep(manifest: dict[str, Any], out: Path) -> None:
    """Write run.json, an entry a line: the optimum of a problem has thousands of numbers."""
    lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in manifest.items())
    write_whole(out / "run.json", ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _describe(world: World, manifest: dict[str, Any], out: Path, workers: int, show: bool) -> None:
    """Put the facts of every problem into the manifest, or why it is skipped."""
    new = [name for name in world.problems if name not in manifest["problems"]]
    found = spread(partial(_facts, world), new, workers if world.apart else 0)
    with Progress(len(new), show) as bar:
        for name, facts, reason in found if new else ():
            bar.describe(f"{name}: data and facts")
            bar.counter(1)(1)
            manifest["skipped"].pop(name, None)
            if facts is None:
                manifest["skipped"][name] = reason
            else:
                manifest["problems"][name] = facts
            _keep(manifest, out)


def _facts(world: World, problem: str) -> tuple[str, dict[str, Any] | None, str]:
    """A problem's name, and its facts or why there are none."""
    try:
        return problem, world.facts(problem), ""
    except InputError as reason:
        return problem, None, str(reason)


# The work ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """An optimizer and those that take its settings: one process's work, in order.

    Attributes:
        storage: that at `url`, for the process that has it open.
    """

    world: World
    family: list[Unit]
    facts: dict[str, Any]
    url: str | None
    out: Path
    storage: Any = None


def _work_off(
    world: World,
    units: list[Unit],
    manifest: dict[str, Any],
    out: Path,
    url: str | None,
    storage: Any,
    workers: int,
    show: bool,
) -> None:
    families: dict[Unit, list[Unit]] = {}
    for unit in units:
        families.setdefault(world.inherits(unit), []).append(unit)
    costs = {first: sum(map(world.cost, family)) for first, family in families.items()}
    order = sorted(families, key=costs.__getitem__, reverse=True)
    if url is not None:
        random.shuffle(order)  # machines that share a storage rarely meet at one
    facts = manifest["problems"]
    here = storage if workers == 0 else None
    jobs = [_Job(world, families[u], facts[u.problem], url, out, here) for u in order]
    open_ = [unit.problem for unit in order]
    with Progress(sum(costs.values()), show) as bar:
        for number, first in enumerate(shared(_work, jobs, workers), 1):
            going_on = order[min(number, len(order) - 1)]
            bar.describe(f"{going_on.problem}: {going_on.optimizer}")
            bar.counter(costs[first])(1)
            names = ", ".join(unit.optimizer for unit in families[first])
            search = f", search {first.search}" if "search" in world.key else ""
            bar.finished(f"{first.problem}: {names}{search}")
            open_.remove(first.problem)
            if open_ and first.problem not in open_:
                _export(world, _units(world, manifest), storage, out)


@lru_cache(maxsize=1)
def _opened(url: str | None, out: Path) -> Any:
    return shared_storage(url, out)


def _work(job: _Job, wait: bool) -> Unit | None:
    """Do a job, and return the unit that its family is named by; see `shared`."""
    storage = job.storage or _opened(job.url, job.out)
    # A family has the name of the one it inherits from, also where only the others are left of it.
    first = job.world.inherits(job.family[0])
    alone = nullcontext(True)  # the folder is ours, and so is its journal
    name = job.world.name(first)
    with reserved(storage, name, wait) if job.url is not None else alone as ours:
        if not ours:
            return None
        for unit in job.family:
            run_unit(job.world, unit, job.facts, storage)
        return first


# Tables -----------------------------------------------------------------------------------------


def _done(world: World, units: list[Unit], storage: Any) -> set[Unit]:
    """Those of the units whose runs are all in the storage."""
    known = set(optuna.get_all_study_names(storage))
    return {
        unit
        for unit in units
        if world.name(unit) in known
        and world.is_done(optuna.load_study(study_name=world.name(unit), storage=storage))
    }


def exported(world: World, out: Path) -> set[Unit]:
    """The units that the tables hold: committed results come without their storage.

    Raises:
        InputError: the table of runs can't be read.
    """
    table, key = out / "runs.parquet", list(world.key)
    if not table.exists():
        return set()
    try:
        runs = pd.read_parquet(table, columns=[*key, "seed"])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{table} is damaged ({str(error).splitlines()[0]}): remove it, and the same command "
            "makes it again from what is kept."
        ) from error
    seeds = runs.groupby(key, observed=True).seed.nunique().reset_index()
    rows = seeds.itertuples(index=False, name=None)
    return {Unit(*unit) for *unit, count in rows if count >= world.seeds}


def _export(world: World, units: list[Unit], storage: Any, out: Path) -> None:
    """Add the finished units that the tables lack; those that they hold stay as they are."""
    there = exported(world, out)
    done = _done(world, [unit for unit in units if unit not in there], storage)
    found = [tables_of(world, unit, storage) for unit in units if unit in done]
    if not found:
        return
    place = {unit[: len(world.key)]: number for number, unit in enumerate(units)}
    # Trials first: the runs say what is there.
    for name, rows, categories in (
        ("trials", [row for trials, _ in found for row in trials], ()),
        ("runs", [row for _, runs in found for row in runs], world.categories),
    ):
        if not rows and not (out / f"{name}.parquet").exists():
            continue  # nothing was searched
        table = _added(world, rows, done, out / f"{name}.parquet", place.get)
        table = table.astype(dict.fromkeys(categories, "category"))
        write_whole(out / f"{name}.parquet", table.to_parquet(index=False, compression="zstd"))


def _added(
    world: World,
    rows: list[dict[str, Any]],
    done: set[Unit],
    path: Path,
    place: Callable[[tuple[Any, ...], int], int],
) -> pd.DataFrame:
    """The table at `path` with these rows of the units `done`, in the order of the units."""
    key = list(world.key)
    table: pd.DataFrame = pd.DataFrame(rows)
    if path.exists():
        old = pd.read_parquet(path).astype(dict.fromkeys(world.categories, str))
        there = [Unit(*unit) not in done for unit in old[key].itertuples(index=False, name=None)]
        table = pd.concat([old[there], table], ignore_index=True)
    order = [place(unit, -1) for unit in table[key].itertuples(index=False, name=None)]
    places = pd.Series(order, index=table.index).sort_values(kind="stable")
    ordered: pd.DataFrame = table.loc[places.index].reset_index(drop=True)
    return ordered
