"""The class that learns Ĝ = A x + b, as a torch optimizer: groups, state, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..forms import Form
from ..learning import Gradient, Weights
from ..settings import settings_of, with_settings
from .checks import check_parts, check_room
from .grouped import Grouped
from .guard import Guard
from .model import Model
from .plain import Tensors
from .planning import Plan, check_graph_capture, gather, plan, take
from .record import LastStep, evaluated
from .response import Action


class Estimator(Grouped):
    """Learns Ĝ = A x + b from the gradients that it sees, and moves no weight.

        estimator = Estimator(params, form=Kronecker(), learn=Normalised(0.5, 0.1))
        optimizer = TO(estimator, lr=0.1)                              # w − γ Ĝ
        optimizer = Estimated(torch.optim.AdamW(params), estimator)    # any other step

    Three free choices: the form of A, the rule by which it is learned, and the step. Fields of
    form, rule and reading are settings of a param group under their own names (alpha, beta, rank),
    so that groups may differ in them.

    The state of a parameter is one tensor per variable. A group's clock is `group["step"]`, the
    number of steps learned from; `group["learns"]` names its form, rule and reading. Memory: θ and
    b; see the form. Time: see the form; the pairs of form and rule in `optim.paths` have kernels or
    closed forms, all others take `rules.learn`.

    Args:
        params: parameters, named parameters or param groups.
        form: of A.
        learn: the rule by which A and b are learned. Default: the paper's, `Gradient()`.
        reads: what A reads of the weights. Default: the weights, `Weights()`.
        scope: "tensor": one A per tensor; "group": the tensors of a param group are one vector w,
            as in the paper, for forms with a row per weight. Default: "tensor".
        state_dtype: dtype of θ and b. Default: that of the parameter, and float32 for float16 and
            bfloat16 parameters.
        foreach: update all tensors of a group with `torch._foreach_*` kernels, where there is a
            closed form. Default: as torch.optim chooses, on for CUDA.
        fused: do the step in one pass over memory by a kernel: C++ on the CPU, compiled once by the
            C++ compiler that it needs, Triton on CUDA. Default: where there is one; False, or a
            `foreach`, switches it off, and True raises where there is none.
        keep_estimate: keep Ĝ after a step, for `estimate`; costs memory traffic. Default: False.
        capturable: keep the clock on the device, for CUDA graphs and for rates that are CUDA
            tensors.
        differentiable: let gradients flow through `step()`, into the rates too.
        check_memory: refuse, before anything is allocated, when a large form of A needs more bytes
            than the device has available. Default: True.
        on_instability: what to do about a gradient, residual, A, b or weights that aren't finite, a
            residual that explodes, and a violated step-size condition. "raise": an
            `InstabilityError`, the step isn't taken. "skip": the step isn't taken. "reset": nor is
            it, and A and b begin anew. "warn": a warning, once for each of these; a step that
            isn't finite isn't taken, any other is. See docs/stability.md. Default: None, nothing,
            at no cost.
        settings: those of a subclass.

    Raises:
        ValueError, TypeError: a setting can't work; the sentence names it, its value and what to
            do.
        MemoryError: A doesn't fit; the sentence names d, the bytes and the ways out.
    """

    _own_settings: ClassVar[tuple[str, ...]] = ()  # of a param group, added by a subclass
    guard: Guard | None = None
    """Does what `on_instability` says; None where it is."""

    def __init__(
        self,
        params: ParamsT,
        form: Form,
        learn: Gradient | None = None,
        *,
        reads: Weights | None = None,
        scope: str = "tensor",
        state_dtype: torch.dtype | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
        keep_estimate: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        check_memory: bool = True,
        on_instability: Action | None = None,
        **settings: Any,
    ) -> None:
        self.form, self.rule, self.reading = form, learn or Gradient(), reads or Weights()
        unknown = {k: v for k, v in settings.items() if k not in self._own_settings}
        check_parts(form, self.rule, self.reading, unknown, type(self).__name__)
        if isinstance(params, set):
            raise TypeError(
                "params is a set, whose order differs from run to run: give the parameters in an "
                "ordered collection, such as a list."
            )
        self._last = LastStep()
        self.guard = None if on_instability is None else Guard(on_instability)
        # The parameters so far, while the groups of `params` are added one by one; they are checked
        # for memory together. None from then on, so that nothing holds what is taken out.
        self._added: set[Tensor] | None = set()
        defaults = {
            **settings,
            **settings_of(self.rule),
            **settings_of(form),
            **settings_of(self.reading),
            **({"scope": scope} if form.rowwise or scope != "tensor" else {}),
            **({"check_memory": check_memory} if form.large else {}),
            "state_dtype": state_dtype,
            "foreach": foreach,
            "fused": fused,
            "keep_estimate": keep_estimate,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)
        check_room(self.model, self.param_groups, self.state)
        self._added = None

    # What a user calls ----------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Learn from the present gradients; see `learn`.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            What `closure` returned, or None.
        """
        loss = evaluated(closure)
        self.learn()
        return loss

    def learn(self) -> bool:
        """Train A and b on the present gradients, and leave the weights where they are.

        `estimate` then holds Ĝ, for another optimizer to step along. The settings `lr` and
        `weight_decay` have no part in it.

        Returns:
            True, or, where `on_instability` has refused the step, False.

        Raises:
            TypeError: a gradient is sparse; nothing has been changed.
            ValueError: a gradient or the state doesn't fit the weights; nothing has been changed.
        """
        return self._update(descends=False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, and forget the estimate and residual that came from them."""
        super().zero_grad(set_to_none)
        self._last.set([])

    def estimate(self, param: Tensor) -> Tensor:
        """Return Ĝ of the last step for `param`: shape of `param`, dtype that it was computed in.

        It is kept by a `step()` with keep_estimate=True, and always by `learn()`, until
        `zero_grad()`. With `maximize=True` it estimates the gradient of the negated objective.

        Raises:
            KeyError: `param` took no part in a step since the last `zero_grad()`, or the estimate
                wasn't kept.
        """
        return self._last.estimate(param)

    def residual_norm(self) -> Tensor:
        """Return ‖e‖₂ of the last step over all parameters, e = g − A x − b: a 0-dim tensor.

        Available from `step()` to `zero_grad()`. Time O(d), no host synchronisation.

        Raises:
            RuntimeError: no step was taken since the last `zero_grad()`.
        """
        return self._last.residual_norm()

    def memory(self) -> list[int]:
        """Return the bytes of optimizer state held now, one number per param group.

        State is allocated by the first step; before it, the answer is 0.
        """
        return [
            sum(value.nbytes for p in group["params"] for value in self.state.get(p, {}).values())
            for group in self.param_groups
        ]

    def model(self, group: dict[str, Any]) -> Model:
        """Return the form, rule and reading of a param group, with its settings."""
        return Model(with_settings(self.form, group), self.rule, with_settings(self.reading, group))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of what the state of a parameter holds."""
        return Model(self.form, self.rule, self.reading).variables

    # The step -------------------------------------------------------------------------------

    def _update(self, descends: bool) -> bool:
        """Learn from the gradients; with `descends`, step along the estimate, too.

        Returns:
            Whether the step was taken: the guard may have refused it.
        """
        check_graph_capture(self)
        if self.guard is not None:
            compiled = torch.compiler.is_compiling()
            step = self.guard.step_outside if compiled else self.guard.step
            taken: bool = step(self, descends)
            return taken
        self._take(self._planned(descends))
        return True

    def _planned(self, descends: bool) -> list[Plan | None]:
        """What a step takes: all groups are checked before the first one moves."""
        return [self._plan(group, descends) for group in self.param_groups]

    def _take(self, planned: list[Plan | None]) -> None:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            records = [record for each in planned if each for record in take(each, self.state)]
        self._last.set(records)

    def _plan(self, group: dict[str, Any], descends: bool) -> Plan | None:
        """What a step on this group takes, checked; None when nothing has a gradient."""
        model = self.model(group)
        tensors = Tensors([], [], [[] for _ in model.variables])
        self._init_group(group, tensors.params, tensors.grads, *tensors.state)
        return plan(model, group, tensors, descends) if tensors.params else None

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *state: list[Tensor]
    ) -> None:
        """Fill the lists; see `gather`.

        The name is torch's: `torch.compile` runs a method of this name without tracing it.
        """
        found = Tensors(params, grads, list(state))
        gather(self.model(group), group, self.state, type(self).__name__, found)
