"""Results of a frozen network that take minutes, computed once and kept in the cache."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import torch
from filelock import FileLock
from torch import Tensor

from trainopt.cache import cache, keep, kept


def stored(name: str, weights: str, inputs: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """What `compute` returns, out of the cache when it is there.

    Args:
        name: what it is; part of the file's name.
        weights: the hash of the network's package.
        inputs: what it is computed from.
        compute: makes it, without gradients.
    """
    digest = hashlib.sha256(inputs.numpy().tobytes() + weights.encode()).hexdigest()
    stem = f"{name}-{digest[:16]}"
    with FileLock(cache() / f"{stem}.lock"):  # of several processes one computes, the others wait
        path = next(kept(stem, ".pt"), None)
        if path is None:
            with torch.no_grad():
                result = compute()
            buffer = io.BytesIO()
            torch.save(result, buffer)
            path = keep(buffer.getvalue(), stem, ".pt")
        tensor: Tensor = torch.load(path, weights_only=True)
    return tensor
