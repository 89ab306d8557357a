"""From gradients to steps: a chunk's sums, the model's update, the move and its safeguards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .base import RESTART, SLOWER
from .control import Losses, Progress
from .detect import RANDOM, SHUFFLED, Check, repeats
from .layout import Layout
from .model import Model, Move
from .plan import Place, Plan
from .reading import Reading

RISE = 3.0  # an overshoot is grave where the slope has turned and is this many times as steep
FALLBACK = 30.0  # the model has failed where ‖Ĝ‖ is this many times its lowest
WORSE = 0.2  # a pass has failed where the loss is this part above its lowest


@dataclass(frozen=True)
class Settings:
    """What `SecantTO` takes as arguments, except the rates of its param groups."""

    pairs: int
    first: int
    scale: float
    trust: float
    patience: int


class Descent:
    """The state of a run, and what happens at each step and each chunk's end.

    Attributes:
        layout: how the parameters lie in a vector.
        plan: the pass.
        progress: the clock and the safeguards.
        losses: what the chunks' losses did.
        model: Ĝ.
        notice: what the user has to be told, once; None when there is nothing.
        reading: the sums over the present chunk.
        vectors: everything of size d, (2K + 2M + 7, d): the model's, then those of `SINGLE`.
        single: the vectors of `SINGLE` by name.
    """

    SINGLE = ("point_sum", "gradient_sum", "origin", "best", "gradient", "jump_s", "jump_y")
    """Σ r w and Σ r g of the chunk being read (in the secant phase `point_sum` is its point); the
    point of the last move; the point to go back to; Ĝ of the last move; Σ p s and Σ p y."""

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        settings: Settings,
        lr: float,
        vectors: Tensor | None = None,
        numbers: dict[str, Any] | None = None,
    ) -> None:
        self.layout, self.plan, self.settings = layout, plan, settings
        count = 2 * plan.chunks + 2 * settings.pairs
        if vectors is None:
            vectors = torch.zeros(
                count + len(self.SINGLE), layout.size, dtype=layout.dtype, device=layout.device
            )
        self.vectors = vectors
        self.single = dict(zip(self.SINGLE, vectors[count:], strict=True))
        self.model = Model(
            plan.shares, settings.pairs, vectors[:count], scale=settings.scale, lr=lr
        )
        self.progress = Progress(until=settings.first, moves=plan.chunks)
        self.losses = Losses([math.nan] * plan.chunks)
        self.notice: str | None = None
        self._checked = min(1, plan.chunks - 1)
        self.reading = Reading(layout, self.single["point_sum"], self.single["gradient_sum"])
        if numbers is None:
            self.single["best"].copy_(layout.weights())
        else:
            self._load(numbers)

    # Reading a chunk --------------------------------------------------------------------------

    def add(self, place: Place, grads: Sequence[Tensor | None], norm: float, loss: float) -> None:
        """Add one step's gradient to the sums of its chunk; see `Reading.add`."""
        if place.first:
            self.reading.begin(self.progress)
        self.reading.add(self.progress, place.rows, grads, norm, loss)

    def end_chunk(self, chunk: int, decay: Sequence[float]) -> None:
        """Put a chunk into the model, and move if it is time: O((K + M) d + K M³).

        Args:
            chunk: the one that was read.
            decay: of each parameter.
        """
        progress = self.progress
        end = chunk == self.plan.chunks - 1
        progress.passes += end
        w = self.layout.weights()
        steady = not progress.secant or torch.equal(w, self.single["point_sum"])
        if progress.check is Check.CHUNK:
            self._end_check(chunk, decay, steady)
            return
        if progress.spoiled and progress.secant:
            self._go_back()
            w = self.single["best"].clone()
        elif not progress.spoiled and steady:  # else its gradients belong to different points
            self._see(chunk, decay)
            if (
                progress.secant
                and 0 < RESTART * progress.reference < progress.norms / progress.rows
            ):
                progress.reference *= SLOWER  # it may be that the first gradients were small
                self._go_back()
                w = self.single["best"].clone()
        checked = progress.check not in (Check.SETTLE, Check.PASS)
        if not checked and not (end and self._pass_repeats()):
            return
        if end:
            self._end_jump()
        if not progress.secant:
            if not (end and progress.passes >= progress.until and bool(self.model.seen.all())):
                return
            self._begin_secant(w)
        progress.radius *= self.losses.resize(self.plan.shares, progress.clipped)
        if end or (chunk + 1) % max(1, self.plan.chunks // progress.moves) == 0:
            self._move(w, chunk, end)
        self._begin_check((chunk + 1) % self.plan.chunks)

    def _see(self, chunk: int, decay: Sequence[float]) -> None:
        """Train the model on a chunk that was read to its end."""
        progress, single = self.progress, self.single
        point = single["point_sum"] if progress.secant else single["point_sum"] / progress.rows
        by_chunk = progress.moves > 1 or self.plan.chunks == 1 or not progress.secant
        gradient, penalty = self.reading.mean_gradient(progress, point, decay)
        visit = self.model.visit(chunk, point, gradient, push=by_chunk)
        if chunk == self._checked and progress.check is Check.DUE:
            progress.held = progress.secant
        if visit is None:
            return
        progress.residual = visit.residual
        predicted = visit.predicted if progress.secant else math.nan
        self.losses.see(chunk, progress.losses / progress.rows + penalty, predicted)
        if not by_chunk:
            single["jump_s"].add_(visit.s, alpha=self.plan.shares[chunk])
            single["jump_y"].add_(visit.y, alpha=self.plan.shares[chunk])
            progress.jumps += 1

    def _end_jump(self) -> None:
        """Make one pair of what the chunks of a pass did together."""
        progress, single = self.progress, self.single
        if progress.jumps == self.plan.chunks:
            self.model.push_all(single["jump_s"], single["jump_y"])
        progress.jumps = 0
        single["jump_s"].zero_()
        single["jump_y"].zero_()

    # Moving -----------------------------------------------------------------------------------

    def _begin_secant(self, w: Tensor) -> None:
        progress = self.progress
        progress.secant = progress.fresh = True
        progress.least = math.inf
        progress.slope = 0.0
        progress.radius = self.settings.trust * self.model.spread(w)

    def _move(self, w: Tensor, chunk: int, end: bool) -> None:
        """Step along −A⁻¹Ĝ.

        Args:
            w: the weights, (d,); overwritten.
            chunk: the one seen last.
            end: whether a pass has ended, when progress is judged.
        """
        progress, model = self.progress, self.model
        here = model.at(w, chunk)
        if progress.slope < 0:
            s = w - self.single["origin"]
            now = float(here.gradient @ s)
            if now > -RISE * progress.slope:  # F rose, by the trapezoid rule
                part = progress.slope / (progress.slope - now)
                w.sub_(s, alpha=1 - part)
                here = model.at(w, chunk)
                progress.radius = max(part, 0.1) * float(torch.linalg.vector_norm(s))
        if end:
            judged = self._judge(w, here, chunk)
            if judged is None:
                return
            w, here = judged
        self._step(w, here)

    def _judge(self, w: Tensor, here: Move, chunk: int) -> tuple[Tensor, Move] | None:
        """Judge a pass; return where to step from, or None where the base phase is back."""
        progress, model = self.progress, self.model
        loss = self.losses.total(self.plan.shares)
        if progress.by_loss == math.isnan(loss):  # the loss is given from now on, or not any more
            progress.by_loss, progress.least = not progress.by_loss, math.inf
        size = float(torch.linalg.vector_norm(here.gradient))
        merit = loss if progress.by_loss else size
        if (
            progress.fresh
        ):  # no gradient was measured here: the weights moved while a chunk was read
            progress.fresh = False
        elif merit < progress.least:
            progress.least = merit
            self.single["best"].copy_(w)
        elif not progress.by_loss and not merit <= FALLBACK * progress.least:
            self._fall_back()
            return None
        elif progress.by_loss and not merit <= progress.least + WORSE * abs(progress.least):
            w = self.single["best"].clone()
            here = model.at(w, chunk)
            progress.radius /= 4
            self.losses.forget_changes()
        if progress.end_pass(size, loss, self.plan.chunks, self.settings.patience):
            model.clear()
            here = model.at(w, chunk)
        return w, here

    def _step(self, w: Tensor, here: Move) -> None:
        progress = self.progress
        step = here.step / progress.damping(self.settings.patience)
        length = float(torch.linalg.vector_norm(step))
        if not math.isfinite(length):
            self.model.clear()
            self._go_back()
            return
        progress.clipped = length > progress.radius
        if progress.clipped:
            step *= progress.radius / length
        reach = max(min(length, progress.radius), here.spread)
        if math.isnan(self.losses.ratio(self.plan.shares)):
            progress.radius = self.settings.trust * reach
        else:
            progress.radius = min(progress.radius, 100 * reach)
        progress.moved = True
        self.layout.write(w + step)
        self.single["origin"].copy_(w)
        self.single["gradient"].copy_(here.gradient)
        progress.slope = float(here.gradient @ (self.layout.weights() - w))

    def restart(self) -> None:
        """Begin the base phase anew at the point to go back to."""
        progress = self.progress
        self.layout.write(self.single["best"])
        self.model.forget()
        progress.spoiled = True
        progress.base_steps = 0
        progress.until = max(progress.until, progress.passes + 1)

    def _go_back(self) -> None:
        """Go to the best point known, and more carefully from there."""
        self.layout.write(self.single["best"])
        self.progress.radius /= 4
        self.progress.slope = 0.0

    def _fall_back(self) -> None:
        """Go to the best point known, and take the base optimizer's steps for a pass."""
        self.layout.write(self.single["best"])
        self.model.clear()
        self._resume_base()
        self.progress.until = self.progress.passes + 1

    def _resume_base(self) -> None:
        progress = self.progress
        progress.secant = progress.held = False
        progress.reference = 0.0
        progress.base_steps = self.plan.steps * progress.passes

    # Do rows repeat? --------------------------------------------------------------------------

    def _begin_check(self, chunk: int) -> None:
        """Put the weights where `chunk`, the next to be read, was read before, if it is to check.

        It is the second one where there is a second: the end of a pass is where users look.
        """
        progress = self.progress
        due = progress.secant and progress.held and progress.check is Check.DUE
        if due and chunk == self._checked:
            progress.check = Check.CHUNK
            progress.slope = 0.0
            self.single["origin"].copy_(self.layout.weights())
            self.layout.write(self.model.points[chunk])

    def _end_check(self, chunk: int, decay: Sequence[float], steady: bool) -> None:
        """Compare a chunk's gradients of two visits at one point, and return to where it was."""
        progress = self.progress
        if progress.spoiled or not steady:
            progress.check = Check.DUE
        elif self._repeats(
            self.reading.mean_gradient(progress, self.single["point_sum"], decay)[0]
            - self.model.gradients[chunk]
        ):
            progress.check = Check.PASSED
        elif self.plan.chunks > 1:
            progress.check, progress.held, progress.moves = Check.SETTLE, False, 1
        else:
            self._retire()
        self.layout.write(self.single["origin"])

    def _pass_repeats(self) -> bool:
        """At a pass's end: return whether a second pass at one point gave what the first gave."""
        progress = self.progress
        complete = progress.jumps == self.plan.chunks
        change = self.single["jump_y"].clone()
        self._end_jump()
        if progress.check is Check.SETTLE:
            progress.check = Check.PASS
        elif not (complete and progress.held):
            progress.held = complete
        elif self._repeats(change):
            progress.check = Check.BY_PASS
            self.model.clear()
            self.notice = SHUFFLED
            return True
        else:
            self._retire()
        return False

    def _retire(self) -> None:
        """Hand over to the base optimizer for good."""
        self.progress.check = Check.FAILED
        self.single["best"].copy_(self.layout.weights())
        self._resume_base()
        self.notice = RANDOM

    def _repeats(self, change: Tensor) -> bool:
        size = self.progress.norms / self.progress.rows
        return repeats(float(torch.linalg.vector_norm(change)), size, self.layout.lowest)

    # What is kept -----------------------------------------------------------------------------

    def numbers(self) -> dict[str, Any]:
        """Return everything but `vectors`, for a state dict."""
        progress = {**asdict(self.progress), "check": self.progress.check.value}
        return {"progress": progress, "losses": asdict(self.losses), "model": self.model.small()}

    def _load(self, numbers: dict[str, Any]) -> None:
        """Take what `numbers` returned."""
        progress = numbers["progress"]
        self.progress = Progress(**{**progress, "check": Check(progress["check"])})
        self.losses = Losses(**{name: list(value) for name, value in numbers["losses"].items()})
        self.model.load_small(numbers["model"])
