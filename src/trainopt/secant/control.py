"""When the optimizer moves, how far, and when it goes back: numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

RESOLVED = 1e-5  # changes of the loss, as a part of it, that float32 shows


class Check(str, Enum):
    """How far the question has got whether rows repeat; see `detect`."""

    DUE = "due"  # the next pass begins with a chunk read at its old point
    CHUNK = "chunk"  # that chunk is being read
    PASSED = "passed"  # rows repeat
    SETTLE = "settle"  # a chunk's rows don't; the weights stand still until a pass's end
    PASS = "pass"  # a pass is being read for the second time at one point
    BY_PASS = "by pass"  # whole passes repeat
    FAILED = "failed"  # nothing does


@dataclass
class Progress:
    """The clock and the safeguards.

    Attributes:
        steps: steps taken.
        passes: passes ended.
        until: the pass at whose end the base phase ends.
        secant: whether the base phase has ended.
        fresh: whether the secant phase has just begun.
        check: whether rows are known to repeat.
        held: whether what a check compares with was measured with the weights at rest.
        base_steps: the base phase's own clock, t in lr / (1 + t / steps of a pass).
        slower: what the base phase's rate is multiplied by after restarts.
        reference: the gradient's norm that a diverging base phase is compared with; 0 before.
        rows: rows of the present chunk read so far.
        norms: the sum of r‖g‖ over them.
        losses: the sum of r × loss over them; NaN where a step came without.
        spoiled: whether the present chunk can't be used.
        reached: for each parameter, whether a step of the present chunk had a gradient of it.
        moves: steps of the weights in a pass.
        low: the lowest ‖Ĝ‖ at a pass's end since the pairs were last dropped.
        low_loss: the lowest loss, the same.
        least: the lowest ‖Ĝ‖, or loss where it is given, since the secant phase began; that of the
            vector `best`.
        by_loss: which of the two `least` is.
        stuck: passes without a new `low` or `low_loss`.
        good: lows in a row.
        need: lows in a row that it takes to move by chunks again.
        moved: whether a step along −A⁻¹Ĝ was taken.
        radius: the longest step allowed.
        clipped: whether the last step was cut to it.
        slope: Ĝᵀs of the last step s; 0 where there was none.
        jumps: chunks whose pairs are summed up for a pair of all chunks.
    """

    until: int
    moves: int
    steps: int = 0
    passes: int = 0
    secant: bool = False
    fresh: bool = False
    check: Check = Check.DUE
    held: bool = False
    base_steps: int = 0
    slower: float = 1.0
    reference: float = 0.0
    rows: int = 0
    norms: float = 0.0
    losses: float = 0.0
    spoiled: bool = False
    reached: list[bool] = field(default_factory=list)
    low: float = math.inf
    low_loss: float = math.inf
    least: float = math.inf
    by_loss: bool = False
    stuck: int = 0
    good: int = 0
    need: int = 1
    moved: bool = False
    radius: float = math.inf
    clipped: bool = False
    slope: float = 0.0
    jumps: int = 0

    def begin_chunk(self) -> None:
        """Start the sums over a chunk's rows."""
        self.rows, self.norms, self.losses, self.spoiled = 0, 0.0, 0.0, False

    @property
    def retired(self) -> bool:
        """Whether the base optimizer has taken over for good."""
        return self.check is Check.FAILED

    def end_pass(self, size: float, loss: float, chunks: int, patience: int) -> bool:
        """Choose how often the weights move in the next pass.

        More often while ‖Ĝ‖ or the loss falls; less often, in the end once a pass, where Ĝ is the
        average of a whole pass, while neither does.

        Args:
            size: ‖Ĝ‖.
            loss: of all rows; NaN where it isn't known.
            chunks: K.
            patience: passes to wait.

        Returns:
            Whether the pairs are to be dropped: measured by chunks, they were of no use.
        """
        gained = size < self.low or loss < self.low_loss
        self.stuck = 0 if gained else self.stuck + 1
        self.low, self.low_loss = min(size, self.low), min(self.low_loss, loss)
        self.good = self.good + 1 if self.stuck == 0 else 0
        if self.check is Check.BY_PASS:
            self.moves = 1
        elif self.stuck == 0:
            if self.moves > 1 or self.good >= self.need:
                self.moves = min(2 * self.moves, chunks)
        elif self.stuck >= patience and self.moves > 1:
            self.moves //= 2
            if self.moves == 1:
                self.need, self.good = 4 * self.need, 0
                self.low = self.low_loss = math.inf
                self.stuck = 0
                return True
        return False

    def damping(self, patience: int) -> float:
        """Return what a step is divided by: noise that doesn't cancel has to be averaged out."""
        extra = self.stuck - 2 * patience
        return 1.0 if self.moves > 1 or extra < 0 else 2.0 + extra


@dataclass
class Losses:
    """The trust region by losses: what the chunks' losses did against what the model foretold.

    Attributes:
        latest: f_k, the mean loss of each chunk at its last visit; NaN where unknown.
        actual: its last change.
        predicted: the change that the model foretold.
    """

    latest: list[float]
    actual: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.actual = self.actual or [math.nan] * len(self.latest)
        self.predicted = self.predicted or [math.nan] * len(self.latest)

    def see(self, chunk: int, loss: float, predicted: float) -> None:
        """Put in a chunk's mean loss, and the change of it that the model foretold (or NaN)."""
        self.actual[chunk] = loss - self.latest[chunk]
        self.predicted[chunk] = predicted
        self.latest[chunk] = loss

    def total(self, shares: Sequence[float]) -> float:
        """Return the loss of all rows; NaN where a chunk's is unknown."""
        return sum(p * f for p, f in zip(shares, self.latest, strict=True))

    def ratio(self, shares: Sequence[float]) -> float:
        """Return Σ p|actual − predicted| / Σ p|actual|.

        NaN where a chunk's is unknown, or where the changes are too small for the losses' rounding.
        """
        if math.isnan(sum(self.actual)):
            return math.nan
        change = sum(p * abs(a) for p, a in zip(shares, self.actual, strict=True))
        level = sum(p * abs(f) for p, f in zip(shares, self.latest, strict=True))
        return self._error(shares) / change if change > RESOLVED * level else math.nan

    def resize(self, shares: Sequence[float], clipped: bool) -> float:
        """Return what the radius is to be multiplied by after a chunk, from the last K chunks."""
        ratio = self.ratio(shares)
        if math.isnan(ratio):
            return 1.0
        rose = sum(p * a for p, a in zip(shares, self.actual, strict=True)) > 0
        foretold = sum(p * q for p, q in zip(shares, self.predicted, strict=True)) > 0
        if ratio > 0.75 or (rose and (foretold or ratio > 0.5)):
            return float(0.5 ** (1 / len(shares)))
        return float(1.5 ** (1 / len(shares))) if ratio < 0.25 and clipped else 1.0

    def forget_changes(self) -> None:
        """Drop the changes: the weights were put somewhere else."""
        self.actual = [math.nan] * len(self.latest)

    def _error(self, shares: Sequence[float]) -> float:
        pairs = zip(shares, self.actual, self.predicted, strict=True)
        return sum(p * abs(a - q) for p, a, q in pairs)
