"""The deep study: every task and optimizer, over several processes."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import optuna
import pandas as pd
import torch

from trainopt.deep.protocol import Protocol
from trainopt.deep.search import Unit, is_done, results, run_unit
from trainopt.deep.task import Ready
from trainopt.deep.tasks import TASKS, Size
from trainopt.errors import InputError
from trainopt.harness.folder import claimed, write_whole, writing
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.processes import shared, spread
from trainopt.harness.progress import Progress
from trainopt.harness.sharing import reserved
from trainopt.harness.storage import open_storage, shared_storage

_VERSIONS = ("transformers", "peft", "lion-pytorch")


def run_deep(
    protocol: Protocol, out: Path, storage_url: str | None, workers: int, show: bool
) -> None:
    """Run what is missing of the study, and write its tables into `out`.

    The storage keeps every trial and every final run as soon as it is there. Called again after an
    interruption, or by several machines with one storage, nothing is computed twice but what was
    under way. The tables are written after every task, so that a part of the study is a result.

    Args:
        protocol: what to run.
        out: folder for run.json and the tables runs and trials (Parquet).
        storage_url: an Optuna storage URL; None keeps a journal in `out`.
        workers: processes on this machine.
        show: draw a progress bar.

    Raises:
        InputError: `out` holds the results of another protocol or is in use, or the storage can't
            be used.
    """
    identity = {"protocol": protocol.digest}
    claimed(out, "study deep", identity)
    if storage_url is not None:
        open_storage(storage_url)
    versions = {name: _version(name) for name in _VERSIONS}
    machine = {"device": _device_name(protocol.size)}
    with writing(out, "study deep", identity, versions=versions, machine=machine) as kept:
        manifest = {**identity, "size": protocol.size, "tasks": {}, "skipped": {}, **kept}
        _keep(manifest, out)
        _run(protocol, manifest, out, storage_url, workers, show)


def _run(
    protocol: Protocol,
    manifest: dict[str, Any],
    out: Path,
    storage_url: str | None,
    workers: int,
    show: bool,
) -> None:
    _describe(protocol, manifest, out, workers, show)
    units = _units(protocol, manifest)
    if _exported(units, protocol, out):
        return
    storage = shared_storage(storage_url, out)
    known = set(optuna.get_all_study_names(storage))
    missing = [unit for unit in units if not is_done(unit, protocol, storage, known)]
    families = _families(missing)
    if storage_url is not None:
        random.shuffle(families)  # machines that share a storage rarely meet at one
    jobs: list[_Job] = [(family, protocol, storage_url, out) for family in families]
    open_ = [family[0].budget.task for family in families]
    try:
        with Progress(len(missing), show) as bar:
            for family in shared(_work, jobs, workers):
                task = family[0].budget.task
                bar.describe(f"{task}: {family[0].optimizer}")
                bar.counter(len(family))(len(family))
                bar.finished(f"{task}: {', '.join(unit.optimizer for unit in family)}")
                open_.remove(task)
                if task not in open_:
                    export(protocol, out, storage_url)
    finally:
        export(protocol, out, storage_url)


def export(protocol: Protocol, out: Path, storage_url: str | None) -> None:
    """Write the tables of all units that are whole.

    Raises:
        InputError: `out` holds nothing of this protocol.
    """
    manifest = claimed(out, "study deep", {"protocol": protocol.digest}) or {"tasks": {}}
    storage = shared_storage(storage_url, out)
    known = set(optuna.get_all_study_names(storage))
    trials: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for unit in _units(protocol, manifest):
        if is_done(unit, protocol, storage, known):
            some_trials, some_runs = results(unit, protocol, storage)
            trials += some_trials
            runs += some_runs
    if runs:
        for trial in trials:
            trial["settings"] = json.dumps(trial["settings"], sort_keys=True)
        _write(pd.DataFrame(runs), out / "runs.parquet")
        _write(pd.DataFrame(trials), out / "trials.parquet")


def _keep(manifest: dict[str, Any], out: Path) -> None:
    write_whole(out / "run.json", (json.dumps(manifest, indent=1) + "\n").encode())


def _describe(
    protocol: Protocol, manifest: dict[str, Any], out: Path, workers: int, show: bool
) -> None:
    """Put the facts of every task into the manifest, or why it is skipped."""
    new = [(name, protocol.size) for name in protocol.tasks if name not in manifest["tasks"]]
    with Progress(len(new), show) as bar:
        for name, facts, reason in spread(_facts, new, workers) if new else ():
            bar.describe(f"{name}: data and weights")
            bar.counter(1)(1)
            manifest["skipped"].pop(name, None)
            if facts is None:
                manifest["skipped"][name] = reason
            else:
                manifest["tasks"][name] = facts
            _keep(manifest, out)


def _facts(named: tuple[str, Size]) -> tuple[str, dict[str, Any] | None, str]:
    """A task's name, and its facts or why there are none."""
    name, size = named
    try:
        task = _built(name, size)
    except InputError as reason:
        return name, None, str(reason)
    model = task.model()
    facts = {
        **task.facts,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "tokens": task.tokens,
        "rows": {
            part: len(getattr(task, part)) for part in ("train", "tune", "validation", "probe")
        },
    }
    return name, facts, ""


def _units(protocol: Protocol, manifest: dict[str, Any]) -> list[Unit]:
    return [
        Unit(budget, optimizer)
        for budget in protocol.budgets
        if budget.task in manifest["tasks"]
        for optimizer in budget.optimizers
    ]


def _families(units: list[Unit]) -> list[list[Unit]]:
    """An optimizer and those that step along Ĝ with its settings: one process's work, in order."""
    families: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        first = OPTIMIZERS[unit.optimizer].plain or unit.optimizer
        families.setdefault((unit.budget.task, first), []).append(unit)
    return list(families.values())


def _exported(units: list[Unit], protocol: Protocol, out: Path) -> bool:
    """Whether the table holds all units already: committed results come without their storage."""
    if not (out / "runs.parquet").exists():
        return False
    runs = pd.read_parquet(out / "runs.parquet", columns=["task", "optimizer", "seed"])
    there = set(runs.drop_duplicates().itertuples(index=False, name=None))
    return all(
        (unit.budget.task, unit.optimizer, seed) in there
        for unit in units
        for seed in range(protocol.seeds)
    )


# In the worker processes ----------------------------------------------------------------------

_Job: TypeAlias = tuple[list[Unit], Protocol, str | None, Path]


def device_of(size: Size) -> torch.device:
    """Where tasks of a size run.

    Raises:
        InputError: the GPU size is wanted and there is none.
    """
    if size == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("The size gpu needs a CUDA device, and torch sees none: take --size cpu.")
    return torch.device("cuda")


@lru_cache(maxsize=1)
def _built(name: str, size: Size) -> Ready:
    return TASKS[name].build(size).to(device_of(size))


@lru_cache(maxsize=1)
def _opened(url: str | None, out: Path) -> Any:
    return shared_storage(url, out)


def _work(job: _Job, wait: bool) -> list[Unit] | None:
    family, protocol, url, out = job
    storage = _opened(url, out)
    alone = nullcontext(True)  # the folder is ours, and so is its journal
    # A family has the name of its plain optimizer, also where only the others are left of it.
    first = OPTIMIZERS[family[0].optimizer].plain or family[0].optimizer
    name = replace(family[0], optimizer=first).study_name(protocol)
    with reserved(storage, name, wait) if url is not None else alone as ours:
        if not ours:
            return None
        for unit in family:
            run_unit(unit, protocol, _built(unit.budget.task, protocol.size), storage)
        return family


def _write(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_parquet(index=False, compression="zstd"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _device_name(size: Size) -> str:
    device = device_of(size)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
