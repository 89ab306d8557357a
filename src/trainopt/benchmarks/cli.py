"""The command `trainopt bench step`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.table import Table

from trainopt.bench.folder import write_manifest, writing
from trainopt.bench.terminal import sentences, show
from trainopt.benchmarks.step import first_steps, limits, step_rows
from trainopt.benchmarks.training import training_rows
from trainopt.memory import human_bytes

app = typer.Typer(help="Speed against peers in the same run.")


@app.callback()
def _group() -> None:
    """Keep `step` a command of its own."""


@app.command()
def step(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("runs/step"),
    repeats: Annotated[int, typer.Option(help="Rounds; the median counts.")] = 30,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
) -> None:
    """A step of every variant and peer on the tensors of real models: milliseconds and ratios."""
    chosen = torch.device(device)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"
    identity = {"device": name}
    with sentences():
        kept = context.with_resource(writing(out, "bench step", identity))
    bandwidth = limits(chosen, repeats)
    print(", ".join(f"{name} {speed:.1f} GB/s" for name, speed in bandwidth.items()))
    tables = {
        "step": pd.DataFrame(step_rows(chosen, repeats)),
        "training": pd.DataFrame(training_rows(chosen, repeats)),
        "first": pd.DataFrame(first_steps(chosen)),
    }
    made = {**kept, **identity, "threads": torch.get_num_threads()}
    write_manifest(out, {**made, "limits_gb_per_s": bandwidth})
    for title, table in tables.items():
        table.to_csv(out / f"{title}.csv", index=False, float_format="%.4g")
        _show(table)
    print(f"\nTables: {out}")


def _show(table: pd.DataFrame) -> None:
    shown = Table(*table.columns, box=None, padding=(0, 1))
    for row in table.to_dict("records"):
        shown.add_row(*(_cell(str(name), value) for name, value in row.items()))
    show(shown)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "–"
    if name == "peak":
        return human_bytes(int(value))
    if name in ("of_limit", "share"):
        return f"{100 * value:.0f} %"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
