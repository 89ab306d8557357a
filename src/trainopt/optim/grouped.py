"""What torch calls of an optimizer that learns: param groups, state dicts, copies and pickles."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from ..forms import Form
from ..learning import Gradient, Weights
from ..loading import loading
from .checks import check_loaded, check_room, check_settings
from .groups import added_group
from .guard import Guard
from .model import LEARNS, Model, joint_vector, own_vector, state_dtype
from .record import LastStep


class Grouped(Optimizer):
    """Param groups and state of an `Estimator`.

    Attributes:
        form, rule, reading: what is learned, and how.
        guard: against instability; None does nothing.
    """

    form: Form
    rule: Gradient
    reading: Weights
    guard: Guard | None
    _last: LastStep
    _added: set[Tensor] | None

    @abstractmethod
    def model(self, group: dict[str, Any]) -> Model:
        """Return the form, rule and reading of a param group, with its settings."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checked before anything changes; see `torch.optim.Optimizer`."""
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else params
        params = params if isinstance(params, set) else list(params)  # torch refuses a set
        tensors = [p[1] if isinstance(p, tuple) else p for p in params]
        if not isinstance(params, set) and all(isinstance(p, Tensor) for p in tensors):
            group = {**self.defaults, **param_group, "params": tensors}
            check_settings(self.model, group)
            if self.guard is not None:
                self.guard.check(group)
            if self._added is None:
                check_room(self.model, [*self.param_groups, group], self.state)
        added = added_group(self, {**param_group, "params": params}, self._added)
        # A name and a clock of its own, also where the group is that of another optimizer.
        added[LEARNS] = self.model(added).name
        added["step"] = torch.zeros((), dtype=torch.int64, device=_clock_device(added))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict; the state keeps its own dtype instead of the parameter's.

        `Optimizer.load_state_dict` casts state to the dtype of its parameter, which would round the
        float32 state of a bfloat16 parameter.

        Raises:
            ValueError, TypeError: the state belongs to another form, rule or reading, or to
                parameters of other shapes, the groups differ, or a setting can't work; nothing has
                been changed.
        """
        given: dict[str, Any] = {}

        def see(final: dict[str, Any]) -> None:
            given.update(final)
            for group, saved in zip(self.param_groups, final["param_groups"], strict=False):
                name = type(self).__name__
                check_loaded(self.model, self.defaults, group, saved, final["state"], name)

        def restore() -> None:
            for group, saved in zip(self.param_groups, given["param_groups"], strict=True):
                for name, default in self.defaults.items():
                    group.setdefault(name, default)  # what an older state dict doesn't hold
                group[LEARNS] = self.model(group).name
                clock = torch.as_tensor(group["step"], dtype=torch.int64)
                group["step"] = clock.to(_clock_device(group), copy=True)
                joint = joint_vector(group)
                for p, key in zip(group["params"], saved["params"], strict=True):
                    dtype = state_dtype(group, joint or own_vector(p))
                    for name, value in (given["state"].get(key) or {}).items():
                        self.state[p][name] = value.to(p.device, dtype, copy=True)

        with loading(self, see, restore):
            super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        parts = {"form": self.form, "rule": self.rule, "reading": self.reading}
        return {**state, **parts, "guard": self.guard}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._last = LastStep()
        self._added = None
        if self.guard is not None:
            self.guard.forget()


def _clock_device(group: dict[str, Any]) -> torch.device:
    on_device = group["capturable"] and group["params"]
    return group["params"][0].device if on_device else torch.device("cpu")
