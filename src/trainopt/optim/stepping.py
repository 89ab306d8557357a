"""Estimators that step along their own estimate: w − γ Ĝ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from torch.optim.optimizer import ParamsT

from ..forms import Form
from ..learning import Gradient
from ..settings import Rate
from .estimator import Estimator
from .record import evaluated


class TrainableOptimizer(Estimator):
    """An `Estimator` with a step of its own, w − γ Ĝ: what the paper's variants and `TO` share.

    Args:
        params: parameters, named parameters or param groups.
        form: of A.
        rule: by which A and b are learned.
        lr: learning rate γ: float, one-element tensor or schedule.
        weight_decay: decoupled decay, w ← (1 − γ·weight_decay) w. Default: 0.
        maximize: ascend instead of descend.
        settings: those of `Estimator`.
    """

    _own_settings = ("lr", "weight_decay", "maximize")

    def __init__(
        self,
        params: ParamsT,
        form: Form,
        rule: Gradient,
        *,
        lr: Rate,
        weight_decay: float = 0.0,
        maximize: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            params, form, rule, lr=lr, weight_decay=weight_decay, maximize=maximize, **settings
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step on every parameter that has a gradient.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            What `closure` returned, or None.

        Raises:
            TypeError: a gradient is sparse; nothing has been changed.
            ValueError: a gradient or the state doesn't fit the weights; nothing has been changed.
        """
        loss = evaluated(closure)
        self._update(descends=True)
        return loss


class TO(TrainableOptimizer):
    """Any estimator, stepping along its estimate: w − γ Ĝ.

        optimizer = TO(Estimator(params, form=LowRank(8)), lr=0.1)

    The two are one from then on: they share groups, state, clocks and the last step, also after
    this one has loaded a state dict, and in copies. Load state dicts and add groups here, not in
    the estimator.

    Args:
        estimator: an `Estimator` without a step of its own.
        lr: learning rate γ: float, one-element tensor or schedule.
        weight_decay: decoupled decay, w ← (1 − γ·weight_decay) w. Default: 0.
        maximize: ascend instead of descend.

    Raises:
        TypeError: `estimator` is none, or steps by itself.
        ValueError, TypeError: a setting can't work; the sentence names it, its value and what to
            do.
    """

    def __init__(
        self,
        estimator: Estimator,
        lr: Rate,
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        if type(estimator) is not Estimator:
            raise TypeError(
                f"estimator is a {type(estimator).__name__}: give an Estimator, which has no step "
                "of its own."
            )
        options = {k: v for k, v in estimator.defaults.items() if k in _OPTIONS}
        super().__init__(
            estimator.param_groups,
            estimator.form,
            estimator.rule,
            reads=estimator.reading,
            lr=lr,
            weight_decay=weight_decay,
            maximize=maximize,
            **options,
        )
        self.guard = estimator.guard
        for group, learned in zip(self.param_groups, estimator.param_groups, strict=True):
            group["step"] = learned["step"]
        self.state = estimator.state
        self._last = estimator._last
        estimator.param_groups = self.param_groups
        self.estimator = estimator

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "estimator": self.estimator}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take groups and state, of a copy or a state dict; the estimator takes the same ones."""
        super().__setstate__(state)
        self.estimator.state, self.estimator.param_groups = self.state, self.param_groups
        self.estimator._last = self._last


_OPTIONS = (
    "scope",
    "state_dtype",
    "foreach",
    "fused",
    "keep_estimate",
    "capturable",
    "differentiable",
    "check_memory",
)
