"""The step −A⁻¹Ĝ, and its safeguards."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .model import Move
from .run import Run

RISE = 3.0  # an overshoot is grave where the slope has turned and is this many times as steep
FALLBACK = 30.0  # the model has failed where ‖Ĝ‖ is this many times its lowest
WORSE = 0.2  # a pass has failed where the loss is this part above its lowest


def begin_secant(run: Run, w: Tensor) -> None:
    """Begin to step along −A⁻¹Ĝ, from w, (d,)."""
    progress = run.progress
    progress.secant = progress.fresh = True
    progress.least = math.inf
    progress.slope = 0.0
    progress.radius = run.settings.trust * run.model.spread(w)


def move(run: Run, w: Tensor, chunk: int, end: bool) -> None:
    """Step along −A⁻¹Ĝ.

    Args:
        run: the run.
        w: the weights, (d,); overwritten.
        chunk: the one seen last.
        end: whether a pass has ended, when progress is judged.
    """
    progress, model = run.progress, run.model
    here = model.at(w, chunk)
    if progress.slope < 0:
        s = w - run.single["origin"]
        now = float(here.gradient @ s)
        if now > -RISE * progress.slope:  # F rose, by the trapezoid rule
            part = progress.slope / (progress.slope - now)
            w.sub_(s, alpha=1 - part)
            here = model.at(w, chunk)
            progress.radius = max(part, 0.1) * float(torch.linalg.vector_norm(s))
    if end:
        judged = _judge(run, w, here, chunk)
        if judged is None:
            return
        w, here = judged
    _step(run, w, here)


def _judge(run: Run, w: Tensor, here: Move, chunk: int) -> tuple[Tensor, Move] | None:
    """Judge a pass; return where to step from, or None where the base phase is back."""
    progress, model = run.progress, run.model
    loss = run.losses.total(run.plan.shares)
    if progress.by_loss == math.isnan(loss):  # the loss is given from now on, or not any more
        progress.by_loss, progress.least = not progress.by_loss, math.inf
    size = float(torch.linalg.vector_norm(here.gradient))
    merit = loss if progress.by_loss else size
    if progress.fresh:  # no gradient was measured here: the weights moved while a chunk was read
        progress.fresh = False
    elif merit < progress.least:
        progress.least = merit
        run.single["best"].copy_(w)
    elif not progress.by_loss and not merit <= FALLBACK * progress.least:
        _fall_back(run)
        return None
    elif progress.by_loss and not merit <= progress.least + WORSE * abs(progress.least):
        w = run.single["best"].clone()
        here = model.at(w, chunk)
        progress.radius /= 4
        run.losses.forget_changes()
    if progress.end_pass(size, loss, run.plan.chunks, run.settings.patience):
        model.clear()
        here = model.at(w, chunk)
    return w, here


def _step(run: Run, w: Tensor, here: Move) -> None:
    progress = run.progress
    step, damping = here.step, progress.damping(run.settings.patience)
    if damping != 1:
        step /= damping
    length = float(torch.linalg.vector_norm(step))
    if not math.isfinite(length):
        run.model.clear()
        run.go_back()
        return
    progress.clipped = length > progress.radius
    if progress.clipped:
        step *= progress.radius / length
    reach = max(min(length, progress.radius), here.spread)
    if math.isnan(run.losses.ratio(run.plan.shares)):
        progress.radius = run.settings.trust * reach
    else:
        progress.radius = min(progress.radius, 100 * reach)
    progress.moved = True
    moved = run.layout.write(w + step)
    run.single["origin"].copy_(w)
    run.single["gradient"].copy_(here.gradient)
    progress.slope = float(here.gradient @ (moved - w))


def _fall_back(run: Run) -> None:
    """Go to the best point known, and take the base optimizer's steps for a pass."""
    run.layout.write(run.single["best"])
    run.model.clear()
    run.resume_base()
    run.progress.until = run.progress.passes + 1
