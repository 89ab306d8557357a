"""Do the rows of a chunk have the same gradients at its next visit?

The question is put directly. Early in the secant phase the weights go back, for one visit of one
chunk, to the point where that chunk was read before: the mean gradient must come out the same. If
it doesn't, the same is asked of a whole pass, which tells rows that wander between chunks from
gradients that are random in themselves.
"""

from __future__ import annotations

from enum import Enum

import torch

TOLERANCE = 0.01


class Check(str, Enum):
    """How far the question has got."""

    DUE = "due"  # the next pass begins with a chunk read at its old point
    CHUNK = "chunk"  # that chunk is being read
    PASSED = "passed"  # rows repeat
    SETTLE = "settle"  # a chunk's rows don't; the weights stand still until a pass's end
    PASS = "pass"  # a pass is being read for the second time at one point
    BY_PASS = "by pass"  # whole passes repeat
    FAILED = "failed"  # nothing does


SHUFFLED = (
    "the gradient of a chunk's rows changed though the weights had not, while that of a whole pass "
    "didn't: the loader seems to shuffle all rows. Give it a ChunkSampler. SecantTO now steps once "
    "a pass."
)
RANDOM = (
    "the gradient of the same rows changed though the weights had not: the model or the data seem "
    "to be random (dropout, batch norm over shuffled batches, augmentation, rows drawn with "
    "replacement). SecantTO has handed over to its base optimizer."
)


def repeats(change: float, size: float, dtype: torch.dtype) -> bool:
    """Return whether two mean gradients of the same rows at the same weights are equal.

    Args:
        change: the norm of their difference.
        size: the mean norm of the mini-batches' gradients.
        dtype: the lowest precision that the gradients are in.
    """
    return change <= max(TOLERANCE, 4 * torch.finfo(dtype).eps) * size
