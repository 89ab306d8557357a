"""The command `trainopt speed`, which imports its work when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainopt.errors import InputError

if TYPE_CHECKING:
    import torch


def speed(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("runs/speed"),
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 30,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
) -> None:
    """A step of every variant and peer on the tensors of real models: milliseconds and ratios."""
    import pandas as pd
    import torch

    from trainopt.harness.folder import write_manifest, writing
    from trainopt.speed.report import draw_again
    from trainopt.speed.step import first_steps, limits, step_rows
    from trainopt.speed.training import training_rows

    chosen = _device(device)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"
    identity = {"device": name}
    kept = context.with_resource(writing(out, "speed", identity))
    bandwidth = limits(chosen, repeats)
    tables = {
        "step": pd.DataFrame(step_rows(chosen, repeats)),
        "training": pd.DataFrame(training_rows(chosen, repeats)),
        "first": pd.DataFrame(first_steps(chosen)),
    }
    made = {**kept, **identity, "threads": torch.get_num_threads()}
    write_manifest(out, {**made, "limits_gb_per_s": bandwidth})
    for title, table in tables.items():
        table.to_csv(out / f"{title}.csv", index=False, float_format="%.4g")
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
