"""The command `trainopt study scientific`; what it does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainopt.stopping import resumable


def scientific(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/scientific.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two problems and short runs, in two minutes.")
    ] = False,
    protocol: Annotated[
        Path | None, typer.Option(help="A protocol file of your own. Default: the committed one.")
    ] = None,
) -> None:
    """Physics-informed networks: SecantTO beside ADAM → L-BFGS and BFGS.

    About 20 minutes; the same command goes on where an interrupted one stopped.
    """
    from trainopt.harness.terminal import say
    from trainopt.scientific.protocol import read_protocol
    from trainopt.scientific.study import run_scientific
    from trainopt.scientific.tables import write_scientific

    folder = out or Path("runs") / ("scientific-quick" if quick else "scientific")
    chosen = read_protocol(protocol, quick)
    with resumable(folder):
        run_scientific(chosen, folder, show=True)
        say(write_scientific(chosen, folder))
