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
from trainopt.bench.folder import Folder
from trainopt.bench.optimizers import DEFAULT, OPTIMIZERS
from trainopt.bench.problems import MODELS, PROBLEMS
from trainopt.bench.report import text_table, write_report
from trainopt.bench.terminal import sentences, show
from trainopt.study.cli import app as study

app = typer.Typer(
    help="Trainable Optimizers: compare them with what you would use instead, on real data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(study, name="study")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option(help="Print the version.")] = False) -> None:
    if version:
        print(trainopt.__version__)
        raise typer.Exit


@app.command()
def compare(
    problem: Annotated[str, typer.Argument(help="A name from `trainopt list`.")],
    optimizers: Annotated[
        str, typer.Option(help="Names from `trainopt list`; alpha0 is always added.")
    ] = ",".join(DEFAULT),
    epochs: Annotated[int, typer.Option(help="Passes over the data per run.")] = 10,
    seeds: Annotated[int, typer.Option(help="Final runs per optimizer.")] = 5,
    tune: Annotated[int, typer.Option(help="Tuning trials per optimizer; 0: no tuning.")] = 16,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/PROBLEM.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A CSV or LIBSVM file of your own; PROBLEM is a model.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The target column of the CSV file.")] = None,
    l2: Annotated[float, typer.Option(help="Strength of the regularisation.")] = 1e-3,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows in a mini-batch. Default: the problem's own.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna storage URL, to share the tuning between machines."),
    ] = None,
) -> None:
    """Train one real problem with every optimizer, tuned alike, and write a report.

    The same command goes on where an interrupted one stopped.
    """
    if out is None:
        out = Path("runs") / (problem if data is None else f"{data.stem}-{problem}")
    try:
        with sentences():
            table = run_comparison(
                problem,
                optimizers,
                epochs=epochs,
                seeds=seeds,
                tune=tune,
                out=out,
                data=data,
                target=target,
                l2=l2,
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
    """Show the problems, the models for your own file, and the optimizers."""
    problems = Table("problem", "data", "model", title="Problems", title_justify="left")
    for name, (data, model, _) in PROBLEMS.items():
        problems.add_row(name, data, MODELS[model].title)
    models = Table(
        "model", "what it is", title="Models for a file of your own (--data)", title_justify="left"
    )
    for each in MODELS.values():
        models.add_row(each.name, each.title)
    optimizers = Table(
        "optimizer", "title", "settings that are tuned", title="Optimizers", title_justify="left"
    )
    for name, entry in OPTIMIZERS.items():
        optimizers.add_row(name, entry.title, ", ".join(entry.space))
    for table in (problems, models, optimizers):
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
