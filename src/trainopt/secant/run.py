"""The state of a run: its vectors, its model and its clock."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..memory import available_bytes, human_bytes
from ..settings import check_count, check_number
from .control import Check, Losses, Progress
from .layout import Layout
from .model import Model, Surprise
from .plan import Plan
from .reading import Reading


@dataclass(frozen=True)
class Settings:
    """What `SecantTO` takes as arguments, except the rates of its param groups.

    Raises:
        TypeError, ValueError: one of them can't work.
    """

    pairs: int
    first: int
    scale: float
    trust: float
    patience: int

    def __post_init__(self) -> None:
        for name in ("pairs", "first", "patience"):
            check_count(name, getattr(self, name))
        for name in ("scale", "trust"):
            check_number(name, getattr(self, name), positive=True)


LEAN = 4  # chunks for large models: with the default pairs, a bit more than half of K = 8


def check_room(layout: Layout, plan: Plan, pairs: int) -> None:
    """Raise a MemoryError where the state is larger than what its device can still give."""
    number = layout.size * layout.dtype.itemsize
    count, lean = Run.count(plan.chunks, pairs), Run.count(LEAN, 3 * LEAN)
    available = available_bytes(layout.device)
    if available is not None and number * count > available:
        raise MemoryError(
            f"the state needs {count} vectors of d = {layout.size}, {human_bytes(number * count)}, "
            f"and {layout.device} has {human_bytes(available)}: give the ChunkSampler "
            f"chunks={LEAN} ({lean} vectors, {human_bytes(number * lean)}), or take DiagonalTO "
            "(2 vectors)."
        )


class Run:
    """What a run has come to, and the ways back.

    Attributes:
        layout: how the parameters lie in a vector.
        plan: the pass.
        settings: the optimizer's.
        progress: the clock and the safeguards.
        losses: what the chunks' losses did.
        model: Ĝ.
        surprise: what the last chunk that was read again said about the model; or, after loading,
            its ‖e‖; None before.
        notice: what the user has to be told, once; None when there is nothing.
        checked: the chunk that is read at its old point to see whether rows repeat: the second one
            where there is a second, since the end of a pass is where users look.
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
        count = self.count(plan.chunks, settings.pairs)
        if vectors is None:
            vectors = torch.zeros(count, layout.size, dtype=layout.dtype, device=layout.device)
        count -= len(self.SINGLE)
        self.vectors = vectors
        self.single = dict(zip(self.SINGLE, vectors[count:], strict=True))
        self.model = Model(
            plan.shares, settings.pairs, vectors[:count], scale=settings.scale, lr=lr
        )
        self.progress = Progress(until=settings.first, moves=plan.chunks)
        self.losses = Losses([math.nan] * plan.chunks)
        self.surprise: Surprise | float | None = None
        self.notice: str | None = None
        self.checked = min(1, plan.chunks - 1)
        self.reading = Reading(layout, self.single["point_sum"], self.single["gradient_sum"])
        if numbers is None:
            self.single["best"].copy_(layout.weights())
        else:
            self._load(numbers)

    @classmethod
    def count(cls, chunks: int, pairs: int) -> int:
        """Return how many vectors of size d the state has: 2K + 2M + 7."""
        return 2 * chunks + 2 * pairs + len(cls.SINGLE)

    def end_jump(self) -> None:
        """Make one pair of what the chunks of a pass did together."""
        progress, single = self.progress, self.single
        if progress.jumps == self.plan.chunks:
            self.model.push_all(single["jump_s"], single["jump_y"])
        progress.jumps = 0
        single["jump_s"].zero_()
        single["jump_y"].zero_()

    # The ways back ----------------------------------------------------------------------------

    def restart(self) -> None:
        """Begin the base phase anew at the point to go back to."""
        progress = self.progress
        self.layout.write(self.single["best"])
        self.model.forget()
        progress.spoiled = True
        progress.base_steps = 0
        progress.until = max(progress.until, progress.passes + 1)

    def go_back(self) -> None:
        """Go to the best point known, and more carefully from there."""
        self.layout.write(self.single["best"])
        self.progress.radius /= 4
        self.progress.slope = 0.0

    def resume_base(self) -> None:
        """Return to the base optimizer's steps."""
        progress = self.progress
        progress.secant = progress.held = False
        progress.reference = 0.0
        progress.base_steps = self.plan.steps * progress.passes

    def residual(self) -> float | None:
        """Return ‖e‖ of the last chunk's end; None before."""
        if isinstance(self.surprise, Surprise):
            self.surprise = self.surprise.residual()
        return self.surprise

    # What is kept -----------------------------------------------------------------------------

    def numbers(self) -> dict[str, Any]:
        """Return everything but `vectors`, for a state dict."""
        progress = {**asdict(self.progress), "check": self.progress.check.value}
        return {
            "progress": progress,
            "losses": asdict(self.losses),
            "residual": self.residual(),
            "model": self.model.small(),
        }

    def _load(self, numbers: dict[str, Any]) -> None:
        """Take what `numbers` returned."""
        progress = numbers["progress"]
        self.progress = Progress(**{**progress, "check": Check(progress["check"])})
        self.losses = Losses(**{name: list(value) for name, value in numbers["losses"].items()})
        self.surprise = numbers["residual"]
        self.model.load_small(numbers["model"])
