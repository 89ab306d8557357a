"""The commands `trainopt study theory` and `memory`; each imports what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainopt.errors import InputError
from trainopt.harness.names import MOST_SEEDS
from trainopt.stopping import resumable


def theory(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/theory"),
    steps: Annotated[int, typer.Option(min=100, help="Steps of a run.")] = 100_000,
    seeds: Annotated[int, typer.Option(min=2, max=MOST_SEEDS, help="Runs of each.")] = 20,
) -> None:
    """The O(1/t) theorems, measured, and where boundedness ends.

    Some 10 minutes; the same command goes on where an interrupted one stopped.
    """
    from trainopt.theory.run import run_theory

    with resumable(out):
        run_theory(steps, seeds, out, lambda line: print(line, file=sys.stderr))


def memory(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/memory"),
    sizes: Annotated[str, typer.Option(help="Numbers of weights.")] = "10010,20020,100100,1001000",
) -> None:
    """Bytes of optimizer state and of a step's peak, measured and by formula."""
    identity = {"sizes": _sizes(sizes)}

    from trainopt.harness.folder import write_manifest, writing
    from trainopt.theory.memory import draw_again, memory_table

    kept = context.with_resource(writing(out, "study memory", identity))
    table = memory_table(identity["sizes"])
    write_manifest(out, {**kept, **identity})
    table.to_csv(out / "memory.csv", index=False)
    draw_again(out, None)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"The sizes are {text}: give whole numbers with commas.") from None
    if not all(1 <= size <= 10**12 for size in sizes):
        raise InputError(f"The sizes are {text}: give numbers from 1 to 10^12.")
    return sizes


def nonconvex(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/nonconvex"),
    steps: Annotated[int, typer.Option(min=150, help="Steps of a run.")] = 1500,
) -> None:
    """‖∇F‖² against T on two deep networks, beside 1/log T and 1/√T.

    Half an hour; the same command goes on where an interrupted one stopped.
    """
    from trainopt.harness.terminal import say
    from trainopt.theory.nonconvex import run_nonconvex, write_nonconvex

    with resumable(out):
        run_nonconvex(steps, out, show=True)
    say(write_nonconvex(out))
