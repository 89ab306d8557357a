"""All commands: the one module that knows them, and every kind of problem.

A command imports what it needs when it runs. Here, and where the commands of a group are declared,
only names are known, so that `--version`, `--help` and `list` are there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import trainopt
from trainopt.advice.cli import advice, advise, spectrum
from trainopt.convex.cli import convex, init, normalised, secant, sensitivity
from trainopt.deep.cli import deep
from trainopt.deep.tasks import TASKS
from trainopt.errors import refuse
from trainopt.harness import names
from trainopt.harness.terminal import sentences
from trainopt.scientific.cli import scientific
from trainopt.speed.cli import speed
from trainopt.stopping import resumable
from trainopt.theory.cli import memory, nonconvex, theory


class _Commands(TyperGroup):
    """What a user can put right is one sentence, whichever command finds it."""

    def invoke(self, ctx: Any) -> Any:
        with sentences():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="Trainable Optimizers: compare them with what you would use instead, on real data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
study = typer.Typer(
    help="The studies behind the claims, with their committed protocols.", no_args_is_help=True
)
_STUDIES = (
    convex, secant, sensitivity, normalised, init, scientific, deep, theory, nonconvex, memory,
    advice, spectrum,
)  # fmt: skip
for command in _STUDIES:
    study.command()(command)
app.add_typer(study, name="study")


def _renamed(command: Callable[..., None], old: str, new: str) -> Callable[..., None]:
    """The same command for those who know its old name, with a line that says the new one."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        print(f"`trainopt {old}` is now `trainopt {new}`.", file=sys.stderr)
        command(*args, **options)

    return run


bench = typer.Typer(no_args_is_help=True)
bench.callback()(lambda: None)  # keeps `step` a command of its own
bench.command("step")(_renamed(speed, "bench step", "speed"))
app.add_typer(bench, name="bench", hidden=True)

app.command()(advise)


def _print_version(asked: bool) -> None:
    if asked:
        print(trainopt.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None: ...


@app.command()
def compare(
    problem: Annotated[str, typer.Argument(help="A name from `trainopt list`.")],
    optimizers: Annotated[
        str | None,
        typer.Option(
            help="Names from `trainopt list`; alpha0 is always added. "
            f"Default: {','.join(names.DEFAULT)}; for a deep task all."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over the data per run. Default: 10; of a deep task its protocol's."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=names.MOST_SEEDS,
            help="Final runs per optimizer. Default: 5; 3 for a deep task.",
        ),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Tuning trials per optimizer; 0: no tuning. Default: 16; 6 for a deep task.",
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
        int | None, typer.Option(min=1, help="Rows in a mini-batch. Default: the problem's own.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna storage URL, to share the tuning between machines."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Of a deep task: cpu, gpu, or auto (default): gpu where there is one."),
    ] = None,
    protocol: Annotated[
        Path | None, typer.Option(help="Of a deep task: a protocol of your own.")
    ] = None,
) -> None:
    """Train one real problem or deep task with every optimizer, tuned alike, and write a report.

    The same command goes on where an interrupted one stopped.
    """
    if out is None:
        out = Path("runs") / (problem if data is None else f"{data.stem}-{problem}")
    if problem in TASKS:
        linear = {"--data": data, "--target": target, "--l2": l2}
        refuse(linear, f"{problem} is a deep task: leave out")
        from trainopt.deep.cli import run_and_show
        from trainopt.deep.comparison import size_named, task_world
        from trainopt.harness.optimizers import names_in

        world = task_world(
            problem,
            None if optimizers is None else names_in(optimizers),
            epochs=epochs,
            batch_size=batch_size,
            seeds=seeds,
            tune=tune,
            size=size_named(size or "auto"),
            protocol=protocol,
        )
        run_and_show(world, out, storage, workers=None)
        return
    refuse({"--size": size, "--protocol": protocol}, f"{problem} is no deep task: leave out")
    from trainopt.comparison import compare as run_comparison
    from trainopt.harness.secrets import shown

    with resumable(out if storage is None else f"{out} and {shown(storage)}"):
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
    from trainopt.convex.comparison_report import show_table

    show_table(table, out)


@app.command("list")
def list_() -> None:
    """Show the problems, the models for your own file, the deep tasks, and the optimizers."""
    _show_names(
        "Problems",
        ("problem", "data", "model"),
        (
            (name, data, names.MODEL_TITLES[model])
            for name, (data, model, _) in names.PROBLEMS.items()
        ),
    )
    _show_names(
        "Models for a file of your own (--data)",
        ("model", "what it is"),
        names.MODEL_TITLES.items(),
    )
    _show_names(
        "Deep tasks",
        ("problem", "what it is", "on a CPU"),
        ((task.name, task.title, task.small) for task in TASKS.values()),
    )
    _show_names(
        "Optimizers of linear problems and of deep tasks",
        ("optimizer", "title", "of", "settings that are tuned"),
        (
            (
                name,
                names.OPTIMIZER_TITLES[name],
                ", ".join(world for world in known.worlds if world != "convex"),
                ", ".join(known.settings) or "none",
            )
            for name, known in names.OPTIMIZERS.items()
        ),
    )


def _show_names(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table as wide as the terminal; long cells go on in the next line."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="What a command with --out made.")],
    protocol: Annotated[
        Path | None, typer.Option(help="Of a study: its protocol. Default: the committed one.")
    ] = None,
) -> None:
    """Draw the report of any results folder again, and print what it says."""
    from trainopt.reports import report as draw

    draw(folder, protocol)


app.command()(speed)
