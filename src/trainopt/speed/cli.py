"""The command `trainopt speed`, which imports its work when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainopt.errors import InputError

if TYPE_CHECKING:
    import torch


class Table(str, Enum):
    """What is measured."""

    step = "step"
    training = "training"
    first = "first"
    guard = "guard"


def speed(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("runs/speed"),
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 30,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    only: Annotated[
        list[Table] | None, typer.Option(help="Measure this table alone; may be repeated.")
    ] = None,
) -> None:
    """A step of every variant and peer on the tensors of real models: milliseconds and ratios."""
    import pandas as pd
    import torch

    from trainopt.harness.folder import read_manifest, write_manifest, writing
    from trainopt.speed.guarded import guarded_rows
    from trainopt.speed.report import draw_again
    from trainopt.speed.step import first_steps, limits, step_rows
    from trainopt.speed.training import training_rows

    chosen = _device(device)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"
    identity = {"device": name}
    kept = context.with_resource(writing(out, "speed", identity))
    there, threads = read_manifest(out) or {}, torch.get_num_threads()
    if only and there.get("threads", threads) != threads:
        raise InputError(
            f"{out} was measured with {there['threads']} threads, not {threads}: leave out --only, "
            "or give another folder with --out."
        )
    bandwidth = there.get("limits_gb_per_s")
    if bandwidth is None or not only or Table.step in only:
        bandwidth = limits(chosen, repeats)
    made = {**kept, **identity, "threads": threads}
    write_manifest(out, {**made, "limits_gb_per_s": bandwidth})
    rows: dict[Table, Callable[[], Iterable[dict[str, Any]]]] = {
        Table.step: lambda: step_rows(chosen, repeats),
        Table.training: lambda: training_rows(chosen, repeats),
        Table.first: lambda: first_steps(chosen),
        Table.guard: lambda: guarded_rows(chosen, repeats),
    }
    for table in dict.fromkeys(only or Table):
        measured = pd.DataFrame(rows[table]())
        measured.to_csv(out / f"{table.value}.csv", index=False, float_format="%.4g")
    draw_again(out, None)


def _device(name: str) -> torch.device:
    """The device of that name, which has answered.

    Raises:
        InputError: there is none.
    """
    import torch

    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise ValueError("only these two are measured")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"The device {name} can't be used ({reason}): give cpu, or cuda where torch sees one."
        ) from error
    return device
