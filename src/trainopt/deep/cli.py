"""The command `trainopt study deep`, which imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainopt.errors import InputError
from trainopt.stopping import resumable

if TYPE_CHECKING:
    from trainopt.deep.world import Deep


def deep(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/deep.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few trials and short runs, in minutes.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Names from `trainopt list`. Default: all.")
    ] = None,
    size: Annotated[str, typer.Option(help="cpu, gpu, or auto: gpu where there is one.")] = "auto",
    protocol: Annotated[
        Path | None, typer.Option(help="A protocol file of your own. Default: the committed one.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL, to share the work between machines.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes. Default: one per core, or one for a GPU."),
    ] = None,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Run nothing: report on what is finished.")
    ] = False,
) -> None:
    """Deep networks on real data: every optimizer tuned alike, with tests.

    The same command goes on where an interrupted one stopped. A task whose parts are missing is
    skipped.
    """
    from trainopt.deep.comparison import size_named
    from trainopt.deep.protocol import read_protocol
    from trainopt.deep.world import Deep
    from trainopt.harness.optimizers import names_in

    chosen = read_protocol(protocol, size=size_named(size), quick=quick)
    if tasks is not None:
        chosen = chosen.only(names_in(tasks, "task"))
    folder = out or Path("runs") / ("deep-quick" if quick else "deep")
    run_and_show(Deep(chosen), folder, storage, workers, only_report)


def run_and_show(
    world: Deep, out: Path, storage: str | None, workers: int | None, only_report: bool = False
) -> None:
    """Run what is missing, write the report of all that the folder holds, and print its tables.

    Raises:
        InputError: something given can't be used, or there is nothing to report on.
    """
    from trainopt.deep.comparison import finished, held
    from trainopt.deep.report import draw_report
    from trainopt.harness.run import export
    from trainopt.harness.secrets import shown

    if only_report and not (out / "run.json").exists():
        raise InputError(f"{out} holds nothing to report on: leave out --only-report to run it.")
    with resumable(out if storage is None else shown(storage)):
        if only_report:
            export(world, out, storage)
            results = held(world, out)
        else:
            results = finished(world, out, storage, workers, show=True)
        draw_report(results, out)
