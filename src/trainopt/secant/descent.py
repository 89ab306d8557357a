"""From gradients to steps: a chunk's sums, the model's update, and when to move."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import RESTART, SLOWER
from .control import Check
from .detect import begin_check, end_check, pass_repeats
from .moving import begin_secant, move
from .plan import Place
from .run import Run


def add(run: Run, place: Place, grads: Sequence[Tensor | None], norm: float, loss: float) -> None:
    """Add one step's gradient to the sums of its chunk; see `Reading.add`."""
    if place.first:
        run.reading.begin(run.progress)
    run.reading.add(run.progress, place.rows, grads, norm, loss)


def end_chunk(run: Run, chunk: int, decay: Sequence[float]) -> None:
    """Put a chunk into the model, and move if it is time: O((K + M) d + K M³).

    Args:
        run: the run.
        chunk: the one that was read.
        decay: of each parameter.
    """
    progress = run.progress
    end = chunk == run.plan.chunks - 1
    progress.passes += end
    w = run.layout.weights()
    steady = not progress.secant or torch.equal(w, run.single["point_sum"])
    if progress.check is Check.CHUNK:
        end_check(run, chunk, decay, steady)
        return
    if progress.spoiled and progress.secant:
        run.go_back()
        w = run.single["best"].clone()
    elif not progress.spoiled and steady:  # else its gradients belong to different points
        _see(run, chunk, decay)
        if progress.secant and 0 < RESTART * progress.reference < progress.norms / progress.rows:
            progress.reference *= SLOWER  # it may be that the first gradients were small
            run.go_back()
            w = run.single["best"].clone()
    checked = progress.check not in (Check.SETTLE, Check.PASS)
    if not checked and not (end and pass_repeats(run)):
        return
    if end:
        run.end_jump()
    if not progress.secant:
        if not (end and progress.passes >= progress.until and all(run.model.seen)):
            return
        begin_secant(run, w)
    progress.radius *= run.losses.resize(run.plan.shares, progress.clipped)
    if end or (chunk + 1) % max(1, run.plan.chunks // progress.moves) == 0:
        move(run, w, chunk, end)
    begin_check(run, (chunk + 1) % run.plan.chunks)


def _see(run: Run, chunk: int, decay: Sequence[float]) -> None:
    """Train the model on a chunk that was read to its end."""
    progress, single = run.progress, run.single
    point = single["point_sum"] if progress.secant else single["point_sum"] / progress.rows
    by_chunk = progress.moves > 1 or run.plan.chunks == 1 or not progress.secant
    gradient, penalty = run.reading.mean_gradient(progress, point, decay)
    visit = run.model.visit(chunk, point, gradient, push=by_chunk)
    if chunk == run.checked and progress.check is Check.DUE:
        progress.held = progress.secant
    if visit is None:
        return
    run.surprise = visit.surprise
    loss = progress.losses / progress.rows
    predicted = math.nan
    if progress.secant and not math.isnan(loss):  # c_kᵀs + ½ sᵀB_k s
        slope = float(gradient @ visit.change[0]) - visit.surprise.own[0][1]
        predicted = slope + 0.5 * visit.surprise.curvature()
    run.losses.see(chunk, loss + penalty, predicted)
    if not by_chunk:
        single["jump_s"].add_(visit.change[0], alpha=run.plan.shares[chunk])
        single["jump_y"].add_(visit.change[1], alpha=run.plan.shares[chunk])
        progress.jumps += 1
