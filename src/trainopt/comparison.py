"""`trainopt.compare`: one problem of any kind, or the user's own, with every optimizer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.deep.tasks import TASKS
from trainopt.errors import InputError, refuse
from trainopt.harness.names import DEFAULT


def compare(
    problem: str | Callable[[], tuple[Any, ...]],
    optimizers: str | list[str] | tuple[str, ...] | None = None,
    *,
    epochs: int | None = None,
    seeds: int | None = None,
    tune: int | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    target: str | None = None,
    l2: float | None = None,
    batch_size: int | None = None,
    storage: str | None = None,
    size: str | None = None,
    protocol: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train one problem with every optimizer under one tuning budget; return the final table.

    Everything is checked before anything is written. With `out`, an interrupted comparison goes on
    where it stopped when it is called again, and finished runs are never computed twice.

    Args:
        problem: a name from `trainopt list`; a model (logistic, softmax, ridge, svm, huber) with
            `data`; or a function that returns (model, data, loss), or (model, data, loss,
            validation data):

            - model: an `nn.Module`. The function is called again for every run, after
              `torch.manual_seed(seed)`, so that all optimizers with one seed start at the same
              weights; data that are slow to read are better read outside.
            - data: tensors (inputs, targets) of one length, or a torch data set of such items; more
              inputs may come before the targets. They are read once, into memory. Without
              validation data, an eighth of them is kept for that; another for the trials.
            - loss: loss(outputs, targets), the mean over a mini-batch.
        optimizers: names from `trainopt list`, the α = 0 baseline is always added; None takes some,
            and all for a deep task.
        epochs: passes over the data per run. Default: 10; a deep task's protocol says its steps.
        seeds: final runs per optimizer, with the seeds 0, 1, …, which tuning never sees. Default:
            5 for a linear problem, else 3, a deep task's protocol has its own.
        tune: trials per optimizer; 0 takes the starting settings as they are. Default: 16 for a
            linear problem, 6 for a function; a deep task's protocol has its own.
        out: folder for the tables, run.json, report.html and pictures; None keeps nothing.
        data: a CSV or LIBSVM file of your own, for a model.
        target: the target column of a CSV file.
        l2: strength of the regularisation of a linear problem. Default: 0.001.
        batch_size: rows in a mini-batch. Default: the problem's own; 32 for a function.
        storage: Optuna storage URL for trials and final runs, of which several machines that
            share it make each once; None keeps them in `out`.
        size: of anything but a linear problem: "cpu", "gpu", or "auto" (default): gpu where there
            is one.
        protocol: of a deep task: a file of your own in place of the committed protocol.
        progress: show a progress bar on the terminal.

    Returns:
        One row per optimizer: of a linear problem see `trainopt.harness.statistics.final_table`,
        else `trainopt.deep.tables.Results.final`, the lowest validation loss first.

    Raises:
        InputError: something given can't be used; the sentence says what, and what to do.
    """
    linear = {"data": data, "target": target, "l2": l2}
    if isinstance(problem, str) and problem not in TASKS:
        from trainopt.convex.comparison import compare as compare_linear

        refuse({"size": size, "protocol": protocol}, f"{problem} is no deep task: leave out")
        return compare_linear(
            problem,
            DEFAULT if optimizers is None else optimizers,
            epochs=10 if epochs is None else epochs,
            seeds=5 if seeds is None else seeds,
            tune=16 if tune is None else tune,
            out=out,
            data=data,
            target=target,
            l2=1e-3 if l2 is None else l2,
            batch_size=batch_size,
            storage=storage,
            progress=progress,
        )
    from trainopt.deep.comparison import finished, size_named, task_world
    from trainopt.deep.own import own_world
    from trainopt.deep.report import write_report
    from trainopt.harness.optimizers import names_in

    names = None if optimizers is None else names_in(optimizers)
    for name, value, least in (
        ("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seeds", seeds, 1), ("tune", tune, 0)
    ):  # fmt: skip
        if value is not None and value < least:
            raise InputError(f"{name} is {value}: give at least {least}.")
    if isinstance(problem, str):
        refuse(linear, f"{problem} is a deep task: leave out")
        world = task_world(
            problem,
            names,
            epochs=epochs,
            batch_size=batch_size,
            seeds=seeds,
            tune=tune,
            size=size_named(size or "auto"),
            protocol=None if protocol is None else Path(protocol),
        )
    else:
        refuse({**linear, "protocol": protocol}, "The problem is a function: leave out")
        world = own_world(
            problem,
            names,
            epochs=epochs or 10,
            batch_size=batch_size or 32,
            seeds=seeds or 3,
            tune=6 if tune is None else tune,
            size=size_named(size or "auto"),
        )
    # In this process: others would run the caller's script again, and may not know its function.
    workers = 0
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        results = finished(world, Path(folder), storage, workers, progress)
        if out is not None:
            write_report(results, Path(out))
        return results.final
