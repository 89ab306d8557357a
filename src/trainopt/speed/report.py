"""The report of `trainopt speed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.harness.folder import read_manifest
from trainopt.harness.markdown import Cells
from trainopt.harness.page import Report, Section, write_page
from trainopt.harness.tables import number
from trainopt.harness.terminal import show_report
from trainopt.memory import human_bytes
from trainopt.speed.contenders import REFERENCE

_TABLES = {
    "step": "A step, by workload",
    "training": "A step of training, gradient included",
    "first": "Seconds of the first step of a process, with nothing compiled yet and with the file",
    "guard": "A step with on_instability, and without",
}


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Draw the report of a folder, and print it."""
    manifest = read_manifest(folder) or {}
    paths = {name: folder / f"{name}.csv" for name in _TABLES}
    tables = {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}
    limits = manifest["limits_gb_per_s"]
    speeds = ", ".join(f"{name} {speed:.1f} GB/s" for name, speed in limits.items())
    report = Report(
        "Speed of a step",
        f"On {manifest['device']} with {manifest['threads']} threads; its memory gives {speeds}.",
        verdict(tables["step"]) if "step" in tables else [],
        [
            Section(
                "Milliseconds",
                (
                    f"vs_adamw and vs_naive are ratios of milliseconds: below 1 is faster than "
                    f"{REFERENCE}, and than the same written plainly.",
                ),
                {_TABLES[name]: cells(table) for name, table in tables.items()},
            )
        ],
        manifest,
    )
    write_page(report, folder)
    show_report(report, folder)


def verdict(steps: pd.DataFrame) -> list[str]:
    """How long a step of each variant takes, by the median over the workloads."""
    ours = steps[steps.contender.str.match(r"\w+-TO, fused$") & steps.vs_adamw.notna()]
    medians = ours.groupby("contender").vs_adamw.median().sort_values()
    words = " and ".join(f"{ratio:.2f} times for {name}" for name, ratio in medians.items())
    return [f"The time of a step, in steps of {REFERENCE}, median over the workloads: {words}."]


def cells(table: pd.DataFrame) -> Cells:
    """A table as it is shown."""
    rows = [
        [_cell(str(name), value) for name, value in row.items()] for row in table.to_dict("records")
    ]
    return list(table.columns), rows


def _cell(name: str, value: Any) -> str:
    if name == "peak":
        return human_bytes(int(value))
    if name in ("of_limit", "share"):
        return number(100 * value, ".0f", " %")
    if name in ("of_step", "of_training"):
        return number(100 * value, ".1f", " %")
    if isinstance(value, float):
        return number(value, ".3g" if abs(value) < 999.5 else ".0f")
    return str(value)
