"""The command line: `trainopt compare`, `trainopt list` and `trainopt report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.table import Table

import trainopt
from trainopt.bench.comparison import compare as run_comparison
from trainopt.bench.errors import InputError
from trainopt.bench.folder import Folder
from trainopt.bench.optimizers import DEFAULT, OPTIMIZERS
from trainopt.bench.problems import MODELS, PROBLEMS
from trainopt.bench.report import text_table, write_report
from trainopt.bench.terminal import sentences, show
from trainopt.benchmarks.cli import app as benchmarks
from trainopt.deep.cli import compare_task, deep
from trainopt.deep.optimizers import OPTIMIZERS as DEEP_OPTIMIZERS
from trainopt.deep.tasks import TASKS
from trainopt.study.cli import app as study

app = typer.Typer(
    help="Trainable Optimizers: compare them with what you would use instead, on real data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
study.command()(deep)
app.add_typer(study, name="study")
app.add_typer(benchmarks, name="bench")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option(help="Print the version.")] = False) -> None:
    if version:
        print(trainopt.__version__)
        raise typer.Exit


@app.command()
def compare(
    problem: Annotated[str, typer.Argument(help="A name from `trainopt list`.")],
    optimizers: Annotated[
        str | None,
        typer.Option(
            help="Names from `trainopt list`; alpha0 is always added. "
            f"Default: {','.join(DEFAULT)}; for a deep task all."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the data per run. Default: 10; a deep task has its steps."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Final runs per optimizer. Default: 5; 3 for a deep task.")
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(
            help="Tuning trials per optimizer; 0: no tuning. Default: 16; 6 for a deep task."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/PROBLEM.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A CSV or LIBSVM file of your own; PROBLEM is a model.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The target column of the CSV file.")] = None,
    l2: Annotated[
        float | None, typer.Option(help="Strength of the regularisation. Default: 0.001.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows in a mini-batch. Default: the problem's own.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna storage URL, to share the tuning between machines."),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Of a deep task: cpu, gpu, or auto: gpu where there is one.")
    ] = "auto",
) -> None:
    """Train one real problem or deep task with every optimizer, tuned alike, and write a report.

    The same command goes on where an interrupted one stopped.
    """
    if out is None:
        out = Path("runs") / (problem if data is None else f"{data.stem}-{problem}")
    if problem in TASKS:
        with sentences():
            not_for_tasks = {
                "--epochs": epochs, "--data": data, "--target": target, "--l2": l2,
                "--batch-size": batch_size,
            }  # fmt: skip
            for name, value in not_for_tasks.items():
                if value is not None:
                    raise InputError(
                        f"{problem} is a deep task, which studies/deep.toml describes: leave out "
                        f"{name}, or change a copy of that file for `trainopt study deep`."
                    )
            compare_task(problem, optimizers, tune, seeds, out, storage, size)
        return
    try:
        with sentences():
            table = run_comparison(
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
                progress=True,
            )
    except KeyboardInterrupt:
        print(
            f"Stopped. What is finished is kept in {out}; the same command goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    _end(table, out)


@app.command("list")
def list_() -> None:
    """Show the problems, the models for your own file, the deep tasks, and the optimizers."""
    problems = Table("problem", "data", "model", title="Problems", title_justify="left")
    for name, (data, model, _) in PROBLEMS.items():
        problems.add_row(name, data, MODELS[model].title)
    models = Table(
        "model", "what it is", title="Models for a file of your own (--data)", title_justify="left"
    )
    for model_ in MODELS.values():
        models.add_row(model_.name, model_.title)
    optimizers = Table(
        "optimizer", "title", "settings that are tuned", title="Optimizers", title_justify="left"
    )
    for name, entry in OPTIMIZERS.items():
        optimizers.add_row(name, entry.title, ", ".join(entry.space))
    tasks = Table("task", "what it is", "on a CPU", title="Deep tasks", title_justify="left")
    for task in TASKS.values():
        tasks.add_row(task.name, task.title, task.small)
    deep_optimizers = Table(
        "optimizer",
        "title",
        "settings that are tuned",
        title="Optimizers of the deep tasks",
        title_justify="left",
    )
    for chosen in DEEP_OPTIMIZERS.values():
        deep_optimizers.add_row(chosen.name, chosen.title, ", ".join(chosen.settings))
    for table in (problems, models, tasks, optimizers, deep_optimizers):
        show(table)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that `trainopt compare` made.")],
) -> None:
    """Draw the report of a results folder again."""
    with sentences():
        table = write_report(Folder.load(folder))
    _end(table, folder)


def _end(table: pd.DataFrame, folder: Path) -> None:
    """Print the final table, and where the report is."""
    show(text_table(table))
    print(f"\nReport: {folder / 'report.html'}")
