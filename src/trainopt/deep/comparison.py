"""A comparison of one deep problem: the deep study with one task, or with one of the user's own."""

from __future__ import annotations

from pathlib import Path

from trainopt.deep.tables import Results
from trainopt.deep.tasks import Size
from trainopt.deep.world import Deep, device_of
from trainopt.harness.provenance import cores
from trainopt.harness.run import run


def finished(
    world: Deep, out: Path, storage: str | None, workers: int | None, show: bool
) -> Results:
    """Run what is missing, and return the results.

    Args:
        world: what to run.
        out: folder for the results.
        storage: an Optuna storage URL; None keeps a journal in `out`.
        workers: processes; None: one for each core, or one for a GPU.
        show: draw a progress bar.

    Raises:
        InputError: something given can't be used.
    """
    size = world.protocol.size
    device_of(size)
    if workers is None:
        workers = 1 if size == "gpu" else cores()
    run(world, out, storage, workers, show)
    return Results.load(out, world.protocol)


def size_named(text: str) -> Size:
    """The size that a user means: auto is gpu where there is one.

    Others than cpu and gpu are refused by `read_protocol`.
    """
    if text == "auto":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    return text  # type: ignore[return-value]
