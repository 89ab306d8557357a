"""`trainopt study memory`: bytes of optimizer state and of a step's peak, measured and by formula.

Everything is measured on tensors, not on the process: exact, and the same on every machine.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainopt.bench.optimizers import OPTIMIZERS
from trainopt.bench.runner import state_bytes
from trainopt.memory import available_bytes
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


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made inside, and the most that live at once.

    Attributes:
        live: bytes of the tensors made so far that still live.
        peak: the largest `live` has been.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what it made."""
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in given | self._known:
                    self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


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
    built = entry.build([w], entry.start)
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
