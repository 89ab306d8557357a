"""`trainopt study memory`: bytes of optimizer state and of a step's peak, measured and by formula.

Everything is measured on tensors, not on the process: exact, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from trainopt.harness.folder import read_manifest
from trainopt.harness.memory_use import PeakBytes, state_bytes
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.page import Report, Section, write_page
from trainopt.harness.palette import TITLES
from trainopt.harness.terminal import show_report
from trainopt.memory import available_bytes, human_bytes
from trainopt.optim import TrainableOptimizer

FLOAT = 4

# Numbers of float32 state for d weights, and how many vectors of d a step needs besides, at its
# peak, by its kernel: Full-TO has its weights in one piece and its estimate. (The state of
# torch.optim has a step counter of 4 bytes, too.)
FORMULAS: dict[str, tuple[Callable[[int], int], int]] = {
    "full": (lambda d: d * d + d, 2),
    "diagonal": (lambda d: 2 * d, 0),
    "rankone": (lambda d: 3 * d, 0),
    "adam": (lambda d: 2 * d, 2),
    "sgd": (lambda d: 0, 0),
}


def measure(optimizer: str, d: int) -> dict[str, Any]:
    """One optimizer on one vector of d float32 weights.

    Returns:
        d, optimizer, state and state_formula (bytes), memory (what `opt.memory()` says; None for
        torch's), peak and peak_formula (the most bytes that a step needs besides weights and
        gradient: the state, and temporaries). The measured ones are None where the state doesn't
        fit in this machine's memory.
    """
    numbers, vectors = FORMULAS[optimizer]
    row: dict[str, Any] = {
        "d": d,
        "optimizer": optimizer,
        "state_formula": FLOAT * numbers(d),
        "peak_formula": FLOAT * (numbers(d) + vectors * d),
        "state": None,
        "memory": None,
        "peak": None,
    }
    available = available_bytes(torch.device("cpu"))
    if available is not None and row["peak_formula"] > 0.8 * available:
        return row
    w = torch.zeros(d, requires_grad=True)
    w.grad = torch.ones(d)
    entry = OPTIMIZERS[optimizer]
    built = entry.build([("w", w)], entry.start)
    with PeakBytes() as counter:
        built.step()  # makes the state
        built.step()
    if isinstance(built, TrainableOptimizer):
        row["memory"] = sum(built.memory())
    row["state"] = state_bytes(built)
    row["peak"] = counter.peak
    return row


def memory_table(sizes: list[int]) -> pd.DataFrame:
    """`measure` for every optimizer of `FORMULAS` and every size."""
    rows = [measure(optimizer, d) for d in sizes for optimizer in FORMULAS]
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def draw_again(folder: Path, protocol: Path | None) -> None:
    """Draw the report of a folder, and print it."""
    table = pd.read_csv(folder / "memory.csv")
    known = table[table.memory.notna()]  # torch's own have a counter of steps besides
    exact = int((known.state == known.state_formula).sum())
    lean = int((known.peak <= 1.01 * known.peak_formula).sum())
    columns = ["d", "optimizer", "state", "state by formula", "opt.memory()", "peak"]
    columns.append("peak by formula")
    rows = [
        [
            f"{row['d']:,}",
            TITLES[row["optimizer"]],
            *(
                "–" if pd.isna(row[name]) else human_bytes(int(row[name]))
                for name in ("state", "state_formula", "memory", "peak", "peak_formula")
            ),
        ]
        for row in table.to_dict("records")
    ]
    note = ("– : it doesn't fit here, or torch's optimizers don't say.",)
    report = Report(
        "Memory",
        "Bytes of optimizer state and of a step's peak on one vector of d weights.",
        [
            f"The state of a Trainable Optimizer is what its formula says, to the byte, in {exact} "
            f"of {len(known)} cases, and a step's peak is within 1 % of its formula in {lean}."
        ],
        [Section("State and peak", note, {"Bytes": (columns, rows)})],
        read_manifest(folder) or {},
    )
    write_page(report, folder)
    show_report(report, folder)
