"""The commands `trainopt study …`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from trainopt.bench.errors import InputError
from trainopt.bench.folder import claimed, write_manifest
from trainopt.bench.optimizers import OPTIMIZERS
from trainopt.bench.provenance import provenance
from trainopt.bench.secrets import shown
from trainopt.bench.terminal import sentences, show
from trainopt.memory import human_bytes
from trainopt.study.convex import run_convex
from trainopt.study.convex_report import summary_cells, write_convex_report
from trainopt.study.memory import memory_table
from trainopt.study.protocol import read_protocol
from trainopt.study.secant import run_secant
from trainopt.study.secant_tables import write_secant
from trainopt.study.tables import Results, headline
from trainopt.study.theory import ERRORS
from trainopt.study.theory_run import run_theory

app = typer.Typer(help="The studies behind the claims, with their committed protocols.")


@app.command()
def convex(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/convex.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="A few cases and trials, in minutes.")] = False,
    protocol: Annotated[Path, typer.Option(help="The protocol.")] = Path("studies/convex.toml"),
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL, to share the work between machines.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Strongly convex problems: every optimizer tuned alike, with tests.

    The same command goes on where an interrupted one stopped.
    """
    folder = out or Path("runs") / ("convex-quick" if quick else "convex")
    with sentences():
        chosen = read_protocol(protocol, quick)
        try:
            run_convex(chosen, folder, storage, workers, show=True)
        except KeyboardInterrupt:
            place = folder if storage is None else shown(storage)
            print(
                f"Stopped. What is finished is kept in {place}; the same command goes "
                "on from there.",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
        results = Results.load(folder, chosen)
    columns, rows = summary_cells(write_convex_report(results, folder), results.references)
    table = Table(*columns, box=None, padding=(0, 1))
    for row in rows:
        table.add_row(*row)
    show(table)
    print("\n" + "\n".join(headline(results)) + f"\nReport: {folder / 'report.html'}")


@app.command()
def secant(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/secant"),
    convex: Annotated[
        Path, typer.Option(help="What `trainopt study convex` wrote: optima and tuned runs.")
    ] = Path("results/convex"),
    protocol: Annotated[Path, typer.Option(help="Its protocol.")] = Path("studies/convex.toml"),
) -> None:
    """SecantTO, untuned, beside the tuned runs of the convex study.

    About half an hour; the same command goes on where an interrupted one stopped.
    """
    with sentences():
        results = Results.load(convex, read_protocol(protocol))
        try:
            run_secant(results, out, show=True)
        except KeyboardInterrupt:
            print("Stopped: the same command goes on from here.", file=sys.stderr)
        print(write_secant(results, out))


@app.command()
def theory(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/theory"),
    steps: Annotated[int, typer.Option(help="Steps of a run.")] = 100_000,
    seeds: Annotated[int, typer.Option(help="Runs of each.")] = 20,
) -> None:
    """The O(1/t) theorems, measured, and where boundedness ends.

    Some 10 minutes; the same command goes on where an interrupted one stopped.
    """
    with sentences():
        slopes = run_theory(steps, seeds, out, lambda line: print(line, file=sys.stderr))
    table = Table("function", "optimizer", "quantity", "slope", "95 % interval", "at the end")
    for row in slopes.to_dict("records"):
        table.add_row(
            row["function"],
            OPTIMIZERS[row["optimizer"]].title,
            ERRORS[row["quantity"]],
            f"{row['slope']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['last']:.2e}",
        )
    show(table)
    print(f"\nPictures and tables: {out}")


@app.command()
def memory(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/memory"),
    sizes: Annotated[str, typer.Option(help="Numbers of weights.")] = "10010,20020,100100,1001000",
) -> None:
    """Bytes of optimizer state and of a step's peak, measured and by formula."""
    with sentences():
        identity = {"sizes": _sizes(sizes)}
        claimed(out, "study memory", identity)
        out.mkdir(parents=True, exist_ok=True)
        table = memory_table(identity["sizes"])
    write_manifest(out, {**provenance(), **identity})
    table.to_csv(out / "memory.csv", index=False)
    shown = Table("d", "optimizer", "state", "by formula", "opt.memory()", "peak", "by formula")
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        shown.add_row(
            f"{row['d']:,}",
            OPTIMIZERS[row["optimizer"]].title,
            *(
                "–" if row[name] is None else human_bytes(row[name])
                for name in ("state", "state_formula", "memory", "peak", "peak_formula")
            ),
        )
    show(shown)
    print(f"\n– : it doesn't fit here, or torch's optimizers don't say. Table: {out}/memory.csv")


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"The sizes are {text}: give whole numbers with commas.") from None
    if min(sizes) < 1:
        raise InputError(f"The sizes are {text}: give numbers of at least 1.")
    return sizes
