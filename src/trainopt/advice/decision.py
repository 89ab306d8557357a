"""From measurements to an optimizer: one table of rules, read from the top."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from .candidates import memory
from .measurements import Measurements


@dataclass(frozen=True)
class Thresholds:
    """The numbers of the rules; `trainopt study advice` says how good they are.

    Attributes:
        linear_passes: from which SecantTO is ahead on a model that is linear in its weights.
        network_passes: the same on other models, where two looks at every chunk come first.
        network_weights: up to which SecantTO's dense algebra and memory pay on other models.
        lbfgs: mini-batches in a pass, for each pass, up to which L-BFGS's one step a pass is ahead
            of stochastic steps.
        spread: decades between the sizes of coordinates from which a rate per weight pays.
        matrices: part of the weights in hidden matrices from which Muon pays,
        noise: where E‖g − ∇F‖² is at most so many times ‖∇F‖²; beyond, averaging pays more.
    """

    linear_passes: float = 4.0
    network_passes: float = 20.0
    network_weights: float = 1e5
    lbfgs: float = 1.2
    spread: float = 0.4
    matrices: float = 0.5
    noise: float = 1.0


@dataclass(frozen=True)
class Setting:
    """What the decision is made in.

    Attributes:
        seen: what was measured.
        bounds: the thresholds.
        room: bytes for the optimizer's state; None: no limit.
    """

    seen: Measurements
    bounds: Thresholds
    room: float | None

    def fits(self, name: str) -> bool:
        """Whether there is room for an optimizer's state."""
        return self.room is None or memory(name, self.seen.weights) <= self.room


@dataclass(frozen=True)
class Rule:
    """A row of the table: take `optimizer` where `when` holds, `because` of that."""

    optimizer: str
    when: Callable[[Setting], bool]
    because: str


def _long_enough(s: Setting) -> bool:
    """Whether SecantTO has the passes and the kind of problem that it needs."""
    if not s.seen.repeats.exact:
        return False
    if s.seen.linear:
        return s.seen.passes >= s.bounds.linear_passes
    small = s.seen.weights <= s.bounds.network_weights
    return small and s.seen.passes >= s.bounds.network_passes


_EXACT = (
    "the same rows give the same gradient at every visit, and {passes:.3g} passes are enough to "
    "learn from that"
)

RULES: tuple[Rule, ...] = (
    Rule("secant", lambda s: _long_enough(s) and s.fits("secant"), _EXACT),
    Rule(
        "secant-small",
        lambda s: _long_enough(s) and s.fits("secant-small"),
        _EXACT + ", with half the memory of K = 8",
    ),
    Rule(
        "lbfgs",
        lambda s: (
            s.seen.repeats.exact
            and s.seen.linear
            and s.seen.steps <= s.bounds.lbfgs * s.seen.passes
            and s.fits("lbfgs")
        ),
        "the rows repeat, and {passes:.3g} passes are many beside the {steps:.3g} mini-batches of "
        "a pass",
    ),
    Rule(
        "muon",
        lambda s: (
            not s.seen.linear
            and s.seen.matrices >= s.bounds.matrices
            and s.seen.noise.ratio <= s.bounds.noise
            and s.fits("muon")
        ),
        "{matrices:.0%} of the weights are in hidden matrices, and a mini-batch has little noise "
        "({ratio:.2g} times the signal)",
    ),
    Rule(
        "schedulefree-sgd",
        lambda s: s.seen.linear and s.seen.spread < s.bounds.spread,
        "the model is linear, and the gradient's coordinates are of like size "
        "({spread:.1f} decades)",
    ),
    Rule(
        "schedulefree-adamw",
        lambda s: s.fits("schedulefree-adamw"),
        "mini-batches are noisy ({ratio:.2g} times the signal), and it averages them without a "
        "schedule",
    ),
    Rule("schedulefree-sgd", lambda s: True, "there is room for one number per weight only"),
)
"""The first row that holds, and isn't excluded, is taken."""

Decision: TypeAlias = tuple[str, str]
"""The optimizer, and why."""


def decide(
    seen: Measurements,
    *,
    exclude: Collection[str] = (),
    bounds: Thresholds | None = None,
    room: float | None = None,
) -> Decision:
    """Read the table.

    Args:
        seen: what was measured.
        exclude: optimizers that can't be taken.
        bounds: other thresholds.
        room: bytes for the optimizer's state.

    Raises:
        ValueError: everything that fits is excluded.
    """
    setting = Setting(seen, bounds or Thresholds(), room)
    for rule in RULES:
        if rule.optimizer not in exclude and rule.when(setting):
            facts = {
                **vars(seen),
                "steps": seen.steps,
                "ratio": seen.noise.ratio,
            }
            return rule.optimizer, rule.because.format(**facts)
    raise ValueError(
        f"exclude={sorted(exclude)} leaves nothing to recommend: exclude fewer optimizers."
    )
