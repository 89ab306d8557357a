"""The command `trainopt study deep`, and what `trainopt compare` does with a deep task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from trainopt.bench.errors import InputError
from trainopt.bench.provenance import cores
from trainopt.bench.secrets import shown
from trainopt.bench.terminal import sentences, show
from trainopt.deep.protocol import PATH, Protocol, read_protocol
from trainopt.deep.report import COLUMNS, task_cells, write_deep_report
from trainopt.deep.study import device_of, export, run_deep
from trainopt.deep.tables import Results, headline
from trainopt.deep.task import Size
from trainopt.deep.tasks import TASKS


def deep(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/deep.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Few trials and short runs, in minutes.")] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Names from `trainopt list`. Default: all.")
    ] = None,
    size: Annotated[str, typer.Option(help="cpu, gpu, or auto: gpu where there is one.")] = "auto",
    protocol: Annotated[Path, typer.Option(help="The protocol.")] = PATH,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL, to share the work between machines.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes. Default: one per core, or one for a GPU.")
    ] = None,
    only_report: Annotated[
        bool, typer.Option(help="Run nothing: report on what is finished.")
    ] = False,
) -> None:
    """Deep networks on real data: every optimizer tuned alike, with tests.

    The same command goes on where an interrupted one stopped. A task whose parts are missing is
    skipped.
    """
    with sentences():
        chosen = read_protocol(protocol, size=_size(size), quick=quick)
        if tasks is not None:
            chosen = chosen.only(_names(tasks))
        folder = out or Path("runs") / ("deep-quick" if quick else "deep")
        run_and_show(chosen, folder, storage, workers, only_report)


def compare_task(
    task: str,
    optimizers: str | None,
    trials: int | None,
    seeds: int | None,
    out: Path,
    storage: str | None,
    size: str,
) -> None:
    """Run one deep task by the study's protocol, with other optimizers or counts where given.

    Raises:
        InputError: something given can't be used.
    """
    protocol = read_protocol(size=_size(size)).only([task])
    names = None if optimizers is None else _names(optimizers)
    run_and_show(protocol.with_counts(names, trials, seeds), out, storage, None, False)


def run_and_show(
    protocol: Protocol, out: Path, storage: str | None, workers: int | None, only_report: bool
) -> None:
    """Run what is missing, write the report of what is finished, and print its tables.

    Raises:
        InputError: something given can't be used, or there is nothing to report on.
    """
    if workers is None:
        workers = 1 if protocol.size == "gpu" else cores()
    if workers < 1:
        raise InputError(f"workers is {workers}: give at least 1.")
    device_of(protocol.size)
    stopped = False
    try:
        if only_report:
            export(protocol, out, storage)
        else:
            run_deep(protocol, out, storage, workers, show=True)
    except KeyboardInterrupt:
        stopped = True
    if not (stopped and not (out / "runs.parquet").exists()):
        _report(Results.load(out, protocol), out)
    if stopped:
        place = out if storage is None else shown(storage)
        print(
            f"Stopped. What is finished is kept in {place}; the same command goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(130)


def _report(results: Results, out: Path) -> None:
    write_deep_report(results, out)
    for name in results.tasks:
        table = Table(
            *COLUMNS, title=TASKS[name].title, title_justify="left", box=None, padding=(0, 1)
        )
        for row in task_cells(results, name):
            table.add_row(*row)
        show(table)
    for name, reason in results.manifest["skipped"].items():
        print(f"{name} is skipped: {reason}")
    print("\n" + "\n".join(headline(results)) + f"\nReport: {out / 'report.html'}")


def _size(text: str) -> Size:
    if text == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return text  # type: ignore[return-value]  # read_protocol checks it


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
