"""Results of a frozen network that take minutes, computed once and kept in the cache."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import torch
from filelock import FileLock
from torch import Tensor

from trainopt.bench.folder import write_whole
from trainopt.cache import cache


def stored(name: str, weights: str, inputs: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """What `compute` returns, out of the cache when it is there.

    Args:
        name: what it is; part of the file's name.
        weights: the hash of the network's package.
        inputs: what it is computed from.
        compute: makes it, without gradients.
    """
    digest = hashlib.sha256(inputs.numpy().tobytes() + weights.encode()).hexdigest()
    path = cache() / f"{name}-{digest[:16]}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # of several processes one computes, the others wait
        if not path.exists():
            with torch.no_grad():
                result = compute()
            buffer = io.BytesIO()
            torch.save(result, buffer)
            write_whole(path, buffer.getvalue())
    kept: Tensor = torch.load(path, weights_only=True)
    return kept
