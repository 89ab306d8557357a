"""The commands `trainopt study convex`, `theory` and `memory`; each imports what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainopt.bench.errors import InputError
from trainopt.bench.names import MOST_SEEDS, OPTIMIZER_TITLES
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
    from rich.table import Table

    from trainopt.bench.provenance import cores
    from trainopt.bench.secrets import shown
    from trainopt.bench.terminal import say, show
    from trainopt.study.convex import run_convex
    from trainopt.study.convex_cells import summary_cells
    from trainopt.study.convex_report import write_convex_report
    from trainopt.study.protocol import read_protocol
    from trainopt.study.tables import Results, headline

    folder = out or Path("runs") / ("convex-quick" if quick else "convex")
    chosen = read_protocol(protocol, quick)
    with resumable(folder if storage is None else shown(storage)):
        run_convex(chosen, folder, storage, workers or cores(), show=True)
        results = Results.load(folder, chosen)
        summary = write_convex_report(results, folder)
    columns, rows = summary_cells(summary, results.references)
    table = Table(*columns, box=None, padding=(0, 1))
    for row in rows:
        table.add_row(*row)
    show(table)
    say("\n" + "\n".join(headline(results)) + f"\nReport: {folder / 'report.html'}")


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
    from trainopt.bench.terminal import say
    from trainopt.study.protocol import read_protocol
    from trainopt.study.secant import run_secant
    from trainopt.study.secant_tables import write_secant
    from trainopt.study.tables import Results

    results = Results.load(convex, read_protocol(protocol))
    with resumable(out):
        run_secant(results, out, show=True)
    say(write_secant(results, out))


def theory(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/theory"),
    steps: Annotated[int, typer.Option(min=100, help="Steps of a run.")] = 100_000,
    seeds: Annotated[int, typer.Option(min=2, max=MOST_SEEDS, help="Runs of each.")] = 20,
) -> None:
    """The O(1/t) theorems, measured, and where boundedness ends.

    Some 10 minutes; the same command goes on where an interrupted one stopped.
    """
    from rich.table import Table

    from trainopt.bench.terminal import say, show
    from trainopt.study.theory import ERRORS
    from trainopt.study.theory_run import run_theory

    with resumable(out):
        slopes = run_theory(steps, seeds, out, lambda line: print(line, file=sys.stderr))
    table = Table("function", "optimizer", "quantity", "slope", "95 % interval", "at the end")
    for row in slopes.to_dict("records"):
        table.add_row(
            row["function"],
            OPTIMIZER_TITLES[row["optimizer"]],
            ERRORS[row["quantity"]],
            f"{row['slope']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['last']:.2e}",
        )
    show(table)
    say(f"\nPictures and tables: {out}")


def memory(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/memory"),
    sizes: Annotated[str, typer.Option(help="Numbers of weights.")] = "10010,20020,100100,1001000",
) -> None:
    """Bytes of optimizer state and of a step's peak, measured and by formula."""
    identity = {"sizes": _sizes(sizes)}

    from rich.table import Table

    from trainopt.bench.folder import write_manifest, writing
    from trainopt.bench.terminal import say, show
    from trainopt.memory import human_bytes
    from trainopt.study.memory import memory_table

    kept = context.with_resource(writing(out, "study memory", identity))
    table = memory_table(identity["sizes"])
    write_manifest(out, {**kept, **identity})
    table.to_csv(out / "memory.csv", index=False)
    shown = Table("d", "optimizer", "state", "by formula", "opt.memory()", "peak", "by formula")
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        shown.add_row(
            f"{row['d']:,}",
            OPTIMIZER_TITLES[row["optimizer"]],
            *(
                "–" if row[name] is None else human_bytes(row[name])
                for name in ("state", "state_formula", "memory", "peak", "peak_formula")
            ),
        )
    show(shown)
    say(f"\n– : it doesn't fit here, or torch's optimizers don't say. Table: {out}/memory.csv")


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"The sizes are {text}: give whole numbers with commas.") from None
    if not all(1 <= size <= 10**12 for size in sizes):
        raise InputError(f"The sizes are {text}: give numbers from 1 to 10^12.")
    return sizes
