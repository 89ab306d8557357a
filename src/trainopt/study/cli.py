"""The commands `trainopt study …`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from trainopt.bench.sentences import sentences
from trainopt.study.convex import run_convex
from trainopt.study.protocol import read_protocol

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
        try:
            run_convex(read_protocol(protocol, quick), folder, storage, workers, show=True)
        except KeyboardInterrupt:
            print(
                f"Stopped. What is finished is kept in {storage or folder}; the same command goes "
                "on from there.",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
