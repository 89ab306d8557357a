"""Jane Austen's novels: windows of symbols, and a small transformer trained on them."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trainopt.data.text import AUSTEN, austen
from trainopt.deep.networks import Decoder
from trainopt.deep.task import CROSS_ENTROPY, Ready, Rows, split
from trainopt.deep.tasks import Size

SOURCE = f"Jane Austen's six novels, {AUSTEN.title}"


def whole_text() -> str:
    """The six novels, one after another.

    Raises:
        InputError: the package isn't in the cache and can't be fetched.
    """
    return "\n\n".join(austen().values())


def windows(symbols: Tensor, length: int) -> Rows:
    """Cut a sequence into windows: inputs, and the symbols that follow each of them.

    Args:
        symbols: int64, one-dimensional.
        length: of a window; what is left at the end is dropped.
    """
    count = (len(symbols) - 1) // length
    inputs = symbols[: count * length].reshape(count, length)
    targets = symbols[1 : count * length + 1].reshape(count, length)
    return Rows((inputs,), targets)


def transformer(size: Size) -> Ready:
    """Build the task transformer."""
    content = np.frombuffer(whole_text().encode(), np.uint8)
    alphabet, symbols = np.unique(content, return_inverse=True)
    length = {"cpu": 64, "gpu": 256}[size]
    rows = windows(torch.from_numpy(symbols.astype(np.int64)), length)
    held_out = {"cpu": 128, "gpu": 1024}[size]
    parts = split(rows, tune=held_out, validation=2 * held_out, probe=held_out)
    shape = {"cpu": {"width": 64, "layers": 2}, "gpu": {"width": 384, "layers": 6}}[size]
    make = partial(Decoder, len(alphabet), length, **shape)
    return Ready(
        **parts,
        model=make,
        tokens=length,
        facts={"data": f"{SOURCE}, as bytes"},
        loss=CROSS_ENTROPY,
    )
