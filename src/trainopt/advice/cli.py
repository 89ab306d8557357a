"""The commands `trainopt advise`, `study advice` and `study spectrum`; imports come late."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainopt.stopping import resumable


def advise(
    problem: Annotated[
        str, typer.Argument(help="A name from `trainopt list`; a model, with --data.")
    ],
    passes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Passes over the data that you mean to make. Default: 10; of a deep task its own.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A CSV or LIBSVM file of your own; PROBLEM is a model.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The target column of the CSV file.")] = None,
    l2: Annotated[float, typer.Option(help="Strength of the regularisation.")] = 1e-3,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows in a mini-batch. Default: the problem's own.")
    ] = None,
    budget: Annotated[int, typer.Option(min=40, help="Mini-batch gradients to spend.")] = 100,
    exclude: Annotated[
        str, typer.Option(help="Optimizers that you can't take, with commas, such as secant.")
    ] = "",
    memory: Annotated[
        float | None, typer.Option(help="Bytes that the optimizer's state may have.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a picture and the advice as text.")
    ] = None,
) -> None:
    """Say which optimizer to take for a problem, and why, after about 100 mini-batches."""
    from trainopt.advice.problems import advise_on
    from trainopt.harness.terminal import say

    say(
        str(
            advise_on(
                problem,
                passes,
                data=data,
                target=target,
                l2=l2,
                batch_size=batch_size,
                budget=budget,
                exclude=exclude,
                memory=memory,
                out=out,
            )
        )
    )


def advice(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/advice"),
    results: Annotated[
        Path, typer.Option(help="Holds what `trainopt study convex`, `secant` and `deep` wrote.")
    ] = Path("results"),
) -> None:
    """Is the advice right? Every problem of the studies, with thresholds fitted on the others.

    Some minutes; the same command goes on where an interrupted one stopped.
    """
    from trainopt.advice.study import run_study, write_study
    from trainopt.harness.terminal import say

    with resumable(out):
        run_study(out, results)
    say(write_study(out, results))


def spectrum(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/spectrum"),
    convex: Annotated[
        Path, typer.Option(help="What `trainopt study convex` wrote: optima and settings.")
    ] = Path("results/convex"),
) -> None:
    """Does the learned A find the Hessian, and does success follow? Some minutes."""
    from trainopt.advice.spectra import run_spectra
    from trainopt.harness.terminal import say

    say(run_spectra(out, convex))
