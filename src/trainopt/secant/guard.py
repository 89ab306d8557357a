"""What `on_instability` adds to the safeguards of `SecantTO`, which act without a word."""

from __future__ import annotations

import math

from ..optim.response import Fault, Response
from .base import RESTART, SLOWER
from .run import Run


def rests(norm: float, run: Run | None, response: Response) -> bool:
    """Say what is wrong with a gradient; return whether the base phase is to leave the weights.

    Args:
        norm: ‖g‖.
        run: the state; None before the first step.
        response: what to do.

    Raises:
        InstabilityError: it says so; the step was not taken.
    """
    progress = None if run is None else run.progress
    based = progress is None or not progress.secant
    reference = 0.0 if progress is None else progress.reference
    if not math.isfinite(norm):
        fault = Fault(
            "not finite",
            f"The gradient has the norm {norm:.3g}, it holds NaN, infinite or far too large "
            "numbers: lower lr, clip gradients, or look at the loss and its data.",
        )
    elif based and 0 < RESTART * reference < norm:
        fault = Fault(
            "growth",
            f"The gradient's norm {norm:.3g} is {norm / reference:.3g} times the first one: lower "
            "the lr of the base phase.",
        )
    else:
        response.taken()
        return False
    skips = response.action == "skip" and fault.name == "not finite"
    if response.action == "raise" or skips:
        response.refuse(fault, "the step was not taken" + ", nor is its chunk used" * skips)
        return True
    restarts = f"the base phase begins anew at a {SLOWER:g}th of its rate"
    done = restarts if based else "the chunk is not used"
    response.tell(Fault(fault.name, f"{fault.sentence} So {done}."))
    return False
