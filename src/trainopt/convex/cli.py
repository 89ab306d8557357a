"""The commands `trainopt study convex` and `secant`; each imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainopt.errors import refuse
from trainopt.stopping import resumable


def convex(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/convex.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few cases and trials, in minutes.")
    ] = False,
    protocol: Annotated[
        Path | None, typer.Option(help="A protocol file of your own. Default: the committed one.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL, to share the work between machines.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: the processors there are.")
    ] = None,
) -> None:
    """Strongly convex problems: every optimizer tuned alike, with tests.

    The same command goes on where an interrupted one stopped.
    """
    from trainopt.convex.protocol import read_protocol
    from trainopt.convex.report import draw_report
    from trainopt.convex.tables import Results
    from trainopt.convex.world import Convex
    from trainopt.harness.provenance import cores
    from trainopt.harness.run import run
    from trainopt.harness.secrets import shown

    folder = out or Path("runs") / ("convex-quick" if quick else "convex")
    chosen = read_protocol(protocol, quick)
    with resumable(folder if storage is None else shown(storage)):
        run(Convex(chosen), folder, storage, workers or cores(), show=True)
        draw_report(Results.load(folder, chosen), folder)


def secant(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/secant"),
    convex: Annotated[
        Path, typer.Option(help="What `trainopt study convex` wrote: optima and tuned runs.")
    ] = Path("results/convex"),
    protocol: Annotated[
        Path | None, typer.Option(help="Its protocol. Default: the committed one.")
    ] = None,
) -> None:
    """SecantTO, untuned, beside the tuned runs of the convex study.

    About half an hour; the same command goes on where an interrupted one stopped.
    """
    from trainopt.convex.protocol import read_protocol
    from trainopt.convex.secant import run_secant
    from trainopt.convex.secant_tables import draw_report
    from trainopt.convex.tables import Results

    results = Results.load(convex, read_protocol(protocol))
    with resumable(out):
        run_secant(results, out, show=True)
    draw_report(results, out)


def sensitivity(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results. Default: runs/sensitivity, or runs/sensitivity-deep."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few cases, in a minute.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Deep tasks in place of the convex cases.")
    ] = False,
) -> None:
    """Where α, β and γ work, over a grid of them, and what one fixed default loses.

    The same command goes on where an interrupted one stopped.
    """
    from trainopt.harness.terminal import say

    folder = out or Path("runs") / ("sensitivity-deep" if deep else "sensitivity")
    if deep:
        refuse({"--quick": quick or None}, "The deep grid has no small version: leave out")
        from trainopt.deep.sensitivity import run_deep_sensitivity
        from trainopt.deep.sensitivity_tables import write_deep_sensitivity

        with resumable(folder):
            run_deep_sensitivity(folder, show=True)
        say(write_deep_sensitivity(folder))
        return
    from trainopt.convex.protocol import read_protocol
    from trainopt.convex.sensitivity import run_sensitivity
    from trainopt.convex.sensitivity_tables import write_sensitivity

    with resumable(folder):
        run_sensitivity(read_protocol(quick=quick).cases, folder, show=True)
    say(write_sensitivity(folder))


def normalised(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/normalised"),
    convex: Annotated[
        Path, typer.Option(help="What `trainopt study convex` wrote: the runs to compare with.")
    ] = Path("results/convex"),
) -> None:
    """The normalised rate beside the paper's, tuned alike on the cases of the convex study.

    The same command goes on where an interrupted one stopped.
    """
    from trainopt.convex.normalised import PROTOCOL, run_normalised
    from trainopt.convex.normalised_tables import write_beside
    from trainopt.convex.protocol import read_protocol
    from trainopt.convex.tables import Results
    from trainopt.harness.terminal import say

    results = Results.load(convex, read_protocol())
    with resumable(out):
        run_normalised(results, read_protocol(PROTOCOL), out, show=True)
    say(write_beside(out, results))


def init(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: runs/init, or runs/init-deep."),
    ] = None,
    convex: Annotated[
        Path, typer.Option(help="What `trainopt study convex` wrote: cases and tuned settings.")
    ] = Path("results/convex"),
    deep: Annotated[
        Path | None,
        typer.Option(
            help="What `trainopt study deep` wrote: its tasks in place of the convex cases."
        ),
    ] = None,
) -> None:
    """Where A and b start, with each optimizer's settings from the convex or the deep study.

    The same command goes on where an interrupted one stopped.
    """
    from trainopt.harness.terminal import say

    folder = out or Path("runs") / ("init" if deep is None else "init-deep")
    if deep is not None:
        from trainopt.deep.initial import run_deep_initial, write_deep_initial
        from trainopt.deep.protocol import read_protocol as read_deep
        from trainopt.deep.tables import Results as Deep

        tuned = Deep.load(deep, read_deep())
        with resumable(folder):
            run_deep_initial(tuned, folder, show=True)
        say(write_deep_initial(folder))
        return
    from trainopt.convex.initial import run_initial, write_initial
    from trainopt.convex.protocol import read_protocol
    from trainopt.convex.tables import Results

    results = Results.load(convex, read_protocol())
    with resumable(folder):
        run_initial(results, folder, show=True)
    say(write_initial(folder))
