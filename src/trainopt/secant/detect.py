"""Do the rows of a chunk have the same gradients at its next visit?

The question is put directly. Early in the secant phase the weights go back, for one visit of one
chunk, to the point where that chunk was read before: the mean gradient must come out the same. If
it doesn't, the same is asked of a whole pass, which tells rows that wander between chunks from
gradients that are random in themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .control import Check
from .run import Run

TOLERANCE = 0.01


SHUFFLED = (
    "the gradient of a chunk's rows changed though the weights had not, while that of a whole pass "
    "didn't: the loader seems to shuffle all rows. Give it a ChunkSampler. SecantTO now steps once "
    "a pass."
)
RANDOM = (
    "the gradient of the same rows changed though the weights had not: the model or the data seem "
    "to be random (dropout, batch norm over shuffled batches, augmentation, rows drawn with "
    "replacement). SecantTO leaves the steps to its base optimizer."
)


def begin_check(run: Run, chunk: int) -> None:
    """Put the weights where `chunk`, the next to be read, was read before, if it is to check."""
    progress = run.progress
    due = progress.secant and progress.held and progress.check is Check.DUE
    if due and chunk == run.checked:
        progress.check = Check.CHUNK
        progress.slope = 0.0
        run.single["origin"].copy_(run.layout.weights())
        run.layout.write(run.model.points[chunk])


def end_check(run: Run, chunk: int, decay: Sequence[float], steady: bool) -> None:
    """Compare a chunk's gradients of two visits at one point, and return to where it was.

    Args:
        run: the run.
        chunk: the one that was read at its old point.
        decay: of each parameter.
        steady: whether the weights stayed there.
    """
    progress = run.progress
    if progress.spoiled or not steady:
        progress.check = Check.DUE
    elif _repeats(
        run,
        run.reading.mean_gradient(progress, run.single["point_sum"], decay)[0]
        - run.model.gradients[chunk],
    ):
        progress.check = Check.PASSED
    elif run.plan.chunks > 1:
        progress.check, progress.held, progress.moves = Check.SETTLE, False, 1
    else:
        _retire(run)
    run.layout.write(run.single["origin"])


def pass_repeats(run: Run) -> bool:
    """At a pass's end: return whether a second pass at one point gave what the first gave."""
    progress = run.progress
    complete = progress.jumps == run.plan.chunks
    change = run.single["jump_y"].clone()
    run.end_jump()
    if progress.check is Check.SETTLE:
        progress.check = Check.PASS
    elif not (complete and progress.held):
        progress.held = complete
    elif _repeats(run, change):
        progress.check = Check.BY_PASS
        run.model.clear()
        run.notice = SHUFFLED
        return True
    else:
        _retire(run)
    return False


def _retire(run: Run) -> None:
    """Leave the steps to the base optimizer for good."""
    run.progress.check = Check.FAILED
    run.single["best"].copy_(run.layout.weights())
    run.resume_base()
    run.notice = RANDOM


def _repeats(run: Run, change: Tensor) -> bool:
    size = run.progress.norms / run.progress.rows
    return repeats(float(torch.linalg.vector_norm(change)), size, run.layout.lowest)


def repeats(change: float, size: float, dtype: torch.dtype) -> bool:
    """Return whether two mean gradients of the same rows at the same weights are equal.

    Args:
        change: the norm of their difference.
        size: the mean norm of the mini-batches' gradients.
        dtype: the lowest precision that the gradients are in.
    """
    return change <= max(TOLERANCE, 4 * torch.finfo(dtype).eps) * size
