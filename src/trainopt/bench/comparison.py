"""The main job: tune every optimizer alike, run it on fresh seeds, and report."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from trainopt.bench.errors import InputError
from trainopt.bench.folder import Folder
from trainopt.bench.names import DEFAULT
from trainopt.bench.optimizers import Entry, chosen
from trainopt.bench.problems import Problem, build
from trainopt.bench.progress import Progress
from trainopt.bench.reference import optimum
from trainopt.bench.report import write_report
from trainopt.bench.runner import seconds_per_epoch, train
from trainopt.bench.tune import SEEDS as TUNING_SEEDS
from trainopt.bench.tune import open_storage, tune


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
        storage: Optuna storage URL for the trials, which several machines may share; None keeps
            them in SQLite in `out`.
        progress: show a progress bar on the terminal.

    Returns:
        One row per optimizer, see `trainopt.bench.stats.final_table`.

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
    pending = [
        (tuned, entry, [seed for seed in range(seeds) if not folder.has(entry.name, seed)])
        for tuned in entries
        for entry in (tuned, tuned.without_A)
        if entry is not None
    ]
    untuned = [entry for entry in entries if entry.name not in folder.manifest["tuned"]]
    # Last of the checks: it builds every optimizer that is to run.
    costs = {
        entry.name: seconds_per_epoch(problem, entry)
        for _, entry, missing in pending
        if missing or entry in untuned
    }
    shared = open_storage(storage_url) if storage_url is not None else None
    total = sum(
        costs.get(entry.name, 0.0)
        * epochs
        * (len(missing) + (len(TUNING_SEEDS) * budget if entry in untuned else 0))
        for _, entry, missing in pending
    )
    folder.save_manifest()
    with Progress(total, show) as bar:
        for tuned, entry, missing in pending:
            count = bar.counter(costs.get(entry.name, 0.0))
            if entry in untuned:
                bar.describe(f"{entry.name}: tuning")
                found = entry.start
                if budget > 0:
                    trials = shared or open_storage(f"sqlite:///{out / 'tuning.db'}")
                    found = tune(problem, entry, budget, epochs, best.value, trials, count)
                folder.keep_settings(entry.name, found)
            settings = {name: folder.manifest["tuned"][tuned.name][name] for name in entry.space}
            for seed in missing:
                bar.describe(f"{entry.name}: seed {seed}")
                folder.keep_run(train(problem, entry, settings, seed, epochs, best.value, count))
            bar.finished(entry.name)
    return write_report(folder)
