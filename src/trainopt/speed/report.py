"""What `trainopt bench step` measured, printed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from trainopt.harness.folder import read_manifest
from trainopt.harness.terminal import say, show
from trainopt.memory import human_bytes

TABLES = ("step", "training", "first")


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Print the tables of a folder."""
    limits = (read_manifest(folder) or {})["limits_gb_per_s"]
    show_tables(limits, (pd.read_csv(folder / f"{name}.csv") for name in TABLES), folder)


def show_tables(limits: dict[str, float], tables: Iterable[pd.DataFrame], folder: Path) -> None:
    """Print the limits of the memory, and the tables."""
    say(", ".join(f"{name} {speed:.1f} GB/s" for name, speed in limits.items()))
    for table in tables:
        shown = Table(*table.columns, box=None, padding=(0, 1))
        for row in table.to_dict("records"):
            shown.add_row(*(_cell(str(name), value) for name, value in row.items()))
        show(shown)
    say(f"\nTables: {folder}")


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "–"
    if name == "peak":
        return human_bytes(int(value))
    if name in ("of_limit", "share"):
        return f"{100 * value:.0f} %"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
