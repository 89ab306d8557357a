"""A comparison of one deep problem: the deep study with one task, or with one of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainopt.deep.protocol import read_protocol
from trainopt.deep.tables import Results
from trainopt.deep.tasks import Size
from trainopt.deep.world import Deep, built, device_of
from trainopt.harness.folder import read_manifest
from trainopt.harness.provenance import cores
from trainopt.harness.run import run


def task_world(
    task: str,
    optimizers: Sequence[str] | None,
    *,
    epochs: int | None,
    batch_size: int | None,
    seeds: int | None,
    tune: int | None,
    size: Size,
    protocol: Path | None,
) -> Deep:
    """A study of one task; what is None is as the protocol says.

    Args:
        task: its name.
        optimizers: names.
        epochs: passes over the training rows.
        batch_size: rows in a mini-batch; without `epochs`, the passes stay as many.
        seeds: final runs per optimizer.
        tune: trials per optimizer.
        size: of the task.
        protocol: a file; None: the committed one.

    Raises:
        InputError: something given can't be used, or a part of the task is missing.
    """
    study = read_protocol(protocol, size=size).only([task])
    if epochs is not None or batch_size is not None:
        rows, plan = len(built(task, size).train), study.budgets[0].plan
        batch = batch_size or plan.batch
        steps = epochs * (rows // batch) if epochs else max(1, plan.steps * plan.batch // batch)
        study = study.planned(task, rows, steps, batch)
    return Deep(study.with_counts(optimizers, tune, seeds))


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
    return held(world, out)


def held(world: Deep, out: Path) -> Results:
    """The results of all tasks, optimizers and seeds that a folder of this protocol holds.

    Raises:
        InputError: something is missing.
    """
    manifest = read_manifest(out) or {}
    return Results.load(out, world.protocol.again(manifest))


def size_named(text: str) -> Size:
    """The size that a user means: auto is gpu where there is one.

    Others than cpu and gpu are refused by `read_protocol`.
    """
    if text == "auto":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    return text  # type: ignore[return-value]
