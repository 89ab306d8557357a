"""Watches the steps of an optimizer, and refuses those that would spoil it."""

from __future__ import annotations

import math
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..settings import rate_at
from .factors import residual_factors
from .norms import finite, total_norm
from .planning import gradient_norm
from .response import Action, Fault, InstabilityError, Response
from .undo import Undo

if TYPE_CHECKING:
    from .estimator import Estimator

GROWN = 100.0  # times its usual size, and the residual has exploded
DOUBTFUL = 10.0  # times its usual size, and a step is taken with a copy at hand
WINDOW = 100  # steps that the usual size is a mean of
FIRST = 5  # steps that are taken with a copy at hand, while there is no usual size
LOOK = 100  # steps between two looks at the step-size condition and at the size of everything
CLOSER = 10  # the same while it is violated
LARGE = 1 / 8  # power of the largest number, above which products of a few sizes may overflow


class Guard:
    """Watches the steps of one optimizer, and refuses those that would spoil it.

    Every step costs ‖g‖ and a wait for the device, in which nothing has been changed yet; ‖e‖ is
    known from the step. A step in doubt is taken with a copy of weights and state at hand, by which
    it can be taken back: one of the first, one with a ‖g‖ or after an ‖e‖ of 10 times its usual
    size, and while α is too large, or weights, A and b together are (65 000 in float32).

    Attributes:
        response: what is done, and how often it was.
    """

    def __init__(self, action: Action) -> None:
        self.response = Response(action)
        self.forget()

    @property
    def events(self) -> dict[str, int]:
        """How often each signature was met: "not finite", "growth", "step size"."""
        return dict(self.response.events)

    @property
    def budget(self) -> float:
        """Σ α_t · D² so far, D the largest ‖w_t‖ seen: 1 is all that Proposition 3.3 allows.

        It is told, not acted on: the condition is sufficient, not necessary.
        """
        return self._alphas * self._radius**2

    def forget(self) -> None:
        """Begin anew: weights, variables or settings aren't those of the steps before."""
        self._gradient, self._residual = _Usual(), _Usual()
        self._spent = 0.0  # log of what the residual may have been multiplied by
        self._since = self._next = 0
        self._alphas = self._radius = 0.0
        self._size = self._moved = 0.0
        self._doubtful = self._large = False

    def check(self, group: dict[str, Any]) -> None:
        """Raise a ValueError when steps of a param group can't be guarded."""
        for name, why in (
            ("capturable", "a CUDA graph can't wait for a decision of the host"),
            ("differentiable", "a step that autograd has seen can't be taken back"),
        ):
            if group[name]:
                raise ValueError(
                    f"on_instability={self.response.action!r} excludes {name}=True, as {why}: "
                    "give one of the two."
                )

    def step(self, optimizer: Estimator, descends: bool) -> bool:
        """Take a step, or refuse it; return whether it was taken.

        Args:
            optimizer: with the gradients of the step.
            descends: whether the weights move.

        Raises:
            InstabilityError: the step was refused, and `action` is "raise", or it was refused
                again and again; weights, state and clocks are as before. Or it was taken, and left
                numbers that aren't finite, without having been in doubt.
        """
        state, groups = optimizer.state, optimizer.param_groups
        params = [p for g in groups for p in g["params"] if p.grad is not None]
        new = [p for p in params if not state.get(p)]
        planned = optimizer._planned(descends)
        gradient = gradient_norm(planned)
        fault = None if finite(gradient) else _bad_gradient(gradient)
        fault = fault or self._condition(optimizer)
        if fault is None or self._goes_on(fault):
            undo = Undo(optimizer, params) if self._in_doubt(gradient) else None
            optimizer._take(planned)
            residual = float(optimizer.residual_norm()) if params else 0.0
            lr = max(float(rate_at(g.get("lr", 0.0), float(g["step"]))) for g in groups)
            self._moved += lr * (gradient + residual)
            # Another optimizer, of which nothing is known, is about to step along Ĝ.
            size = self._measured(optimizer, params, undo is not None or not descends)
            fault = self._judged(residual, size, undo is not None)
            if fault is None or self._goes_on(fault):
                self._taken(gradient, residual, size)
                return True
            if undo is None:
                raise InstabilityError(
                    f"{fault.sentence} This was not foreseen, and the step has been taken: load a "
                    "checkpoint."
                )
            undo()
        optimizer._last.set([])
        for p in new:
            del state[p]
        self._refuse(optimizer, fault)
        return False

    # For a graph that is being compiled; anywhere else it would import the compiler: a second.
    step_outside = torch._disable_dynamo(step)  # type: ignore[attr-defined]

    # Signatures -------------------------------------------------------------------------------

    def _condition(self, optimizer: Estimator) -> Fault | None:
        """Ask now and then what the steps since the last time may have done to the residual."""
        if self._since < self._next:
            return None
        steps, self._since = max(1, self._since), 0
        factor = max(residual_factors(optimizer).values(), default=0.0)
        self._spent = max(0.0, self._spent + steps * math.log(max(factor, 1e-30)))
        self._next = CLOSER if factor >= 1 else LOOK
        alpha = max(float(rate_at(g["alpha"], float(g["step"]))) for g in optimizer.param_groups)
        norm = total_norm([p.detach() for g in optimizer.param_groups for p in g["params"]])
        self._alphas += steps * alpha
        self._radius = max(self._radius, norm)
        if self._spent <= math.log(GROWN):
            return None
        grown, self._spent = math.exp(min(self._spent, 700)), 0.0
        return Fault(
            "step size",
            f"The step-size condition |1 − β − α·gain| < 1 is violated: it is {factor:.3g} at "
            f"alpha={alpha:.3g} and may have multiplied the residual by {grown:.2g} (Σα·D² is "
            f"{self.budget:.2g}, of 1 in Proposition 3.3): lower alpha.",
        )

    def _measured(self, optimizer: Estimator, params: list[Tensor], now: bool) -> float:
        """Return the size of weights, A, b and Ĝ together; 0 where it isn't looked at.

        It is `now`, every now and then, and once the weights may have moved by their own size.
        """
        if not now and self._since and self._moved < self._size:
            return 0.0
        numbers = [p.detach() for p in params]
        numbers += [value for p in params for value in optimizer.state[p].values()]
        for record in optimizer._last.records:
            for p, estimate in zip(record.params, record.estimate or (), strict=False):
                # Which is the gradient of another optimizer, in its dtype.
                numbers.append(estimate.half() if p.dtype == torch.float16 else estimate)
        return total_norm(numbers)

    def _judged(self, residual: float, size: float, undoable: bool) -> Fault | None:
        """Return what is wrong with a step that was taken."""
        usual = self._residual
        if not (finite(residual) and finite(size)):
            return Fault(
                "not finite",
                f"The gradient is finite, but the residual ‖g − A·w − b‖ is {residual:.3g} and "
                "weights, A or b overflow: lower alpha, beta or lr, or clip gradients.",
            )
        if not undoable or usual.count < FIRST:
            return None
        if residual > GROWN * usual.size and residual > usual.first:
            return Fault(
                "growth",
                f"The residual ‖g − A·w − b‖ = {residual:.3g} has grown to "
                f"{residual / usual.size:.3g} times its usual {usual.size:.3g}: lower alpha or lr, "
                "or clip gradients.",
            )
        return None

    def _in_doubt(self, gradient: float) -> bool:
        return (
            self._doubtful
            or self._large
            or self._next == CLOSER
            or self._residual.count < FIRST
            or gradient > DOUBTFUL * self._gradient.size
        )

    # What is done -----------------------------------------------------------------------------

    def _goes_on(self, fault: Fault) -> bool:
        """Whether the step is taken all the same: skipping it wouldn't make α smaller, either."""
        action = self.response.action
        if fault.name == "not finite" or action in ("raise", "reset"):
            return False
        if action == "skip" and fault.name == "growth":
            return False
        self.response.tell(fault)
        return True

    def _taken(self, gradient: float, residual: float, size: float) -> None:
        self._gradient.add(gradient)
        self._residual.add(residual)
        self._doubtful = residual > DOUBTFUL * self._residual.size
        if size:
            self._size, self._moved = size, 0.0
            self._large = size > torch.finfo(torch.float32).max ** LARGE
        self._since += 1
        self.response.taken()

    def _refuse(self, optimizer: Estimator, fault: Fault) -> None:
        if self.response.action != "reset":
            self._doubtful = True
            self.response.refuse(fault)
            return
        self.response.refuse(fault, "the step was not taken, and A and b begin anew")
        for p in [p for group in optimizer.param_groups for p in group["params"]]:
            optimizer.state.pop(p, None)
        usual = self._gradient
        self.forget()
        # The residual of A = 0, b = 0 is the gradient, whose usual size is what it was.
        self._gradient, self._residual = usual, copy(usual)
        self._doubtful = True


class _Usual:
    """The usual size of a norm: the geometric mean over some `WINDOW` steps.

    Attributes:
        count: steps so far in which it wasn't 0.
        first: the largest of the first ones.
    """

    def __init__(self) -> None:
        self.count, self.first, self._mean = 0, 0.0, 0.0

    @property
    def size(self) -> float:
        return math.exp(self._mean) if self.count else math.inf

    def add(self, norm: float) -> None:
        if norm > 0:
            self.count += 1
            if self.count <= FIRST:
                self.first = max(self.first, norm)
            self._mean += (math.log(norm) - self._mean) / min(self.count, WINDOW)


def _bad_gradient(norm: float) -> Fault:
    return Fault(
        "not finite",
        f"The gradient has the norm {norm:.3g}, it holds NaN, infinite or far too large numbers: "
        "lower lr, clip gradients, or look at the loss and its data.",
    )
