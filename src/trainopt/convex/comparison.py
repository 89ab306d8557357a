"""The main job: tune every optimizer alike, run it on fresh seeds, and report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from trainopt.convex.comparison_report import write_report
from trainopt.convex.optimum import optimum
from trainopt.convex.problems import Problem, build
from trainopt.convex.train import seconds_per_epoch, train
from trainopt.convex.tune import SEEDS as TUNING_SEEDS
from trainopt.convex.tune import study_name, tune
from trainopt.errors import InputError
from trainopt.harness.folder import Folder, writing
from trainopt.harness.names import DEFAULT
from trainopt.harness.optimizers import Entry, Row, Settings, chosen
from trainopt.harness.progress import Progress
from trainopt.harness.sharing import reserved
from trainopt.harness.storage import open_storage


def compare(
    problem: str,
    optimizers: str | list[str] | tuple[str, ...] = DEFAULT,
    *,
    epochs: int = 10,
    seeds: int = 5,
    tune: int = 16,
    out: str | Path | None = None,
    data: str | Path | None = None,
    target: str | None = None,
    l2: float = 1e-3,
    batch_size: int | None = None,
    storage: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train one problem with every optimizer under one tuning budget; return the final table.

    An optimizer that learns A is run a second time over the same seeds with A removed (α = 0) and
    its own tuned settings otherwise: that difference is what learning A adds.

    Everything is checked before anything is written. With `out`, an interrupted comparison goes on
    where it stopped when it is called again, and finished runs are never computed twice.

    Args:
        problem: a name from `trainopt list`, or a model (logistic, softmax, ridge, svm,
            huber) with `data`.
        optimizers: names from `trainopt list`; the α = 0 baseline is always added.
        epochs: passes over the data per run.
        seeds: final runs per optimizer, with the seeds 0, 1, …, which tuning never sees.
        tune: trials per optimizer; 0 takes each optimizer's starting settings as they are.
        out: folder for runs.parquet, run.json, report.html and PNGs; None keeps nothing.
        data: a CSV or LIBSVM file of your own.
        target: the target column of a CSV file.
        l2: strength of the regularisation.
        batch_size: rows in a mini-batch; None takes the problem's own.
        storage: Optuna storage URL for trials and final runs, of which several machines that
            share it make each once; None keeps the trials in SQLite in `out`.
        progress: show a progress bar on the terminal.

    Returns:
        One row per optimizer, see `trainopt.harness.statistics.final_table`.

    Raises:
        InputError: something given can't be used; the sentence says what and how to mend it.
    """
    entries = chosen(optimizers)
    for name, value, least in (("epochs", epochs, 1), ("seeds", seeds, 1), ("tune", tune, 0)):
        if value < least:
            raise InputError(f"{name} is {value}: give at least {least}.")
    built = build(problem, data, target, l2, batch_size)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _compare(built, entries, epochs, seeds, tune, Path(folder), storage, progress)
    return _compare(built, entries, epochs, seeds, tune, Path(out), storage, progress)


def _compare(
    problem: Problem,
    entries: list[Entry],
    epochs: int,
    seeds: int,
    budget: int,
    out: Path,
    storage_url: str | None,
    show: bool,
) -> pd.DataFrame:
    identity = {
        "problem": problem.name,
        "epochs": epochs,
        "tune": budget,
        "l2": problem.l2,
        "batch_size": problem.batch_size,
        "fingerprint": problem.fingerprint(),
    }
    try:
        best = optimum(problem)
    except RuntimeError as error:
        raise InputError(f"{error} Give a larger l2, or rescale the columns.") from error
    facts = {
        "title": f"{problem.model.title} on {problem.dataset.source}",
        "n": problem.n,
        "dim": problem.dim,
        "optimum": {"value": best.value, "gradient_norm": best.gradient_norm},
    }
    folder = Folder.create_or_resume(out, identity, facts)
    # Last of the checks: it builds every optimizer that is to run.
    costs = {
        entry.name: seconds_per_epoch(problem, entry)
        for tuned in entries
        for entry in _family(tuned)
        if _work(folder, entry, tuned, seeds, budget)
    }
    shared = open_storage(storage_url) if storage_url is not None else None
    with writing(out, "compare", identity) as manifest:
        folder = Folder.create_or_resume(out, identity, facts)  # with what was written meanwhile
        folder.manifest |= manifest
        folder.save_manifest()
        total = sum(
            costs.get(entry.name, 0.0) * epochs * _work(folder, entry, tuned, seeds, budget)
            for tuned in entries
            for entry in _family(tuned)
        )
        with Progress(total, show) as bar:
            run = partial(_run, problem, epochs, seeds, budget, best.value, folder, costs, bar)
            if shared is None:
                for tuned in entries:
                    run(tuned, None)
            else:
                _share(run, problem, entries, epochs, budget, shared)
        return write_report(folder)


def _share(
    run: Callable[[Entry, Any], None],
    problem: Problem,
    entries: list[Entry],
    epochs: int,
    budget: int,
    storage: Any,
) -> None:
    """Run the optimizers; those that another machine is at come last, when it has them done."""
    for wait in (False, True):
        busy = []
        for tuned in entries:
            name = study_name(problem, tuned, epochs, budget)
            with reserved(storage, name, wait) as ours:
                if ours:
                    run(tuned, storage)
                else:
                    busy.append(tuned)
        entries = busy


def _run(
    problem: Problem,
    epochs: int,
    seeds: int,
    budget: int,
    best: float,
    folder: Folder,
    costs: dict[str, float],
    bar: Progress,
    tuned: Entry,
    shared: Any,
) -> None:
    """Tune one optimizer and make its final runs; what the folder or `shared` holds is taken."""
    if tuned.name not in folder.manifest["tuned"]:
        bar.describe(f"{tuned.name}: tuning")
        count = bar.counter(costs.get(tuned.name, 0.0))
        found = tuned.start
        if budget > 0:
            trials = shared or open_storage(f"sqlite:///{folder.path / 'tuning.db'}")
            found = tune(problem, tuned, budget, epochs, best, trials, count)
        folder.keep_settings(tuned.name, found)
    for entry in _family(tuned):
        count = bar.counter(costs.get(entry.name, 0.0))
        settings = {name: folder.manifest["tuned"][tuned.name][name] for name in entry.space}
        for seed in _missing(folder, entry, seeds):
            bar.describe(f"{entry.name}: seed {seed}")
            make = partial(train, problem, entry, settings, seed, epochs, best, count)
            if shared is None:
                folder.keep_run(make())
            else:
                study = optuna.load_study(
                    storage=shared, study_name=study_name(problem, tuned, epochs, budget)
                )
                folder.keep_run(_shared_run(study, entry.name, settings, seed, make))
        bar.finished(entry.name)


def _shared_run(
    study: optuna.Study, name: str, settings: Settings, seed: int, make: Callable[[], list[Row]]
) -> list[Row]:
    """A final run out of the storage, where its settings are these; else it is made and put there.

    A folder of an older version may have been tuned to something else.
    """
    key = f"run-{name}-{seed}"
    rows: list[Row] = study.user_attrs.get(key, [])
    if not rows or json.loads(rows[0]["settings"]) != settings:
        rows = make()
        study.set_user_attr(key, rows)
    return rows


def _family(tuned: Entry) -> list[Entry]:
    """An optimizer, and where it learns A itself without A."""
    return [tuned] if tuned.with_alpha_0 is None else [tuned, tuned.with_alpha_0]


def _missing(folder: Folder, entry: Entry, seeds: int) -> list[int]:
    """The seeds of the final runs that aren't there."""
    return [seed for seed in range(seeds) if not folder.has(entry.name, seed)]


def _work(folder: Folder, entry: Entry, tuned: Entry, seeds: int, budget: int) -> int:
    """How many runs of `entry` are to be made, those of its search included."""
    search = entry is tuned and entry.name not in folder.manifest["tuned"]
    return len(_missing(folder, entry, seeds)) + len(TUNING_SEEDS) * budget * search
