"""Any optimizer, stepping along the learned estimate of the full gradient.

A Trainable Optimizer does two things: it learns Ĝ = A w + b, and it steps w − γ Ĝ as SGD would. The
second is a choice. `Estimated` keeps the first and leaves the step to another optimizer, which
sees Ĝ where it would have seen the mini-batch gradient g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from .optim import Estimator
from .optim.pairing import (
    PREFIX,
    call_if_there,
    check_pair,
    check_same_params,
    hold_fresh_clocks,
    params_of,
    split,
)

# The estimator's part of a state dict: a prefix in a parameter's state, a key in the first group.
_GROUPS = "estimator"


class Estimated(Optimizer):
    """Hand the estimate Ĝ of a Trainable Optimizer to another optimizer, in place of g.

        optimizer = Estimated(AdamW(params, lr=1e-3), Estimator(params, Diagonal()))

    A step learns A and b from the gradients, puts Ĝ in their place (in the dtype of the gradient),
    lets `optimizer` step, and puts the gradients back. With α = 0, β = 1 the estimate is g and this
    is `optimizer` to the last bit; with α = 0, β = 1 − μ it is `optimizer` on the exponential
    average of the gradients, μ m + (1 − μ) g from m = 0.

    `param_groups`, `state` and `defaults` are those of `optimizer`, so that learning-rate
    schedulers, gradient scalers and trainers see the optimizer they know. Set `maximize` and
    `weight_decay` there; the estimator's `lr` and `weight_decay` are not used.

    Memory: both states; for the time of a step Ĝ twice, and Ĝ once until `zero_grad()`. Time: both.

    Args:
        optimizer: any torch optimizer whose step needs no closure, on the same parameters.
        estimator: an `Estimator`, or a variant such as `DiagonalTO`, whose own step is not used. It
            may group the parameters in its own way.

    Raises:
        TypeError: one of the two isn't what it should be, or `optimizer` needs a closure.
        ValueError: they don't hold the same parameters, or the estimator maximizes.
    """

    def __init__(self, optimizer: Optimizer, estimator: Estimator) -> None:
        check_pair(optimizer, estimator)
        # What unpickling does. Optimizer.__init__ would make groups of its own.
        self.__setstate__({"optimizer": optimizer, "estimator": estimator})

    optimizer: Optimizer
    estimator: Estimator

    # The step --------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Learn from the gradients, and step along the estimate.

        Where the estimator's `on_instability` refuses the step, neither of the two takes it.

        Hooks registered on this optimizer see the gradients g; those registered on the inner one
        see Ĝ.

        Args:
            closure: evaluates the model and returns the loss; called once, before anything else.

        Returns:
            What `closure` returned, or None.

        Raises:
            TypeError: a gradient is sparse; nothing has been changed.
            ValueError: somebody changed the groups of one of the two, so that they don't hold the
                same parameters any more; nothing has been changed.

        What the inner optimizer raises comes through with the gradients back in place; A and b
        have learned from them by then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        check_same_params(self.optimizer, self.estimator)
        started = [group["step"] > 0 for group in self.estimator.param_groups]
        if not self.estimator.learn():
            return loss
        hold_fresh_clocks(self.optimizer, self.estimator, started)
        with self._estimate_as_gradient():
            self.optimizer.step()
        return loss

    @contextmanager
    def _estimate_as_gradient(self) -> Iterator[None]:
        active = [(p, p.grad) for p in params_of(self.param_groups) if p.grad is not None]
        try:
            for p, grad in active:
                # A copy: some optimizers (schedule-free SGD with decay) write into the gradient.
                p.grad = self.estimate(p).to(grad.dtype, copy=True)
            yield
        finally:
            for p, grad in active:
                p.grad = grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, and forget the estimate and residual that came from them."""
        self.optimizer.zero_grad(set_to_none)
        self.estimator.zero_grad(set_to_none)

    def train(self) -> None:
        """Go to the training weights, with a schedule-free inner optimizer; else do nothing."""
        call_if_there(self.optimizer, "train")

    def eval(self) -> None:
        """Go to the averaged weights, with a schedule-free inner optimizer; else do nothing."""
        call_if_there(self.optimizer, "eval")

    # What the estimator knows ----------------------------------------------------------------

    def estimate(self, param: Tensor) -> Tensor:
        """Return Ĝ of the last step for `param`; see `Estimator.estimate`."""
        return self.estimator.estimate(param)

    def residual_norm(self) -> Tensor:
        """Return ‖g − A w − b‖ of the last step; see `Estimator.residual_norm`."""
        return self.estimator.residual_norm()

    def memory(self) -> list[int]:
        """Return the bytes of state of both, one number per param group of this optimizer."""
        states = self.optimizer.state, self.estimator.state
        return [
            sum(
                value.nbytes
                for p in group["params"]
                for state in states
                for value in state.get(p, {}).values()
                if isinstance(value, Tensor)
            )
            for group in self.param_groups
        ]

    # What torch calls ------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The inner optimizer's; the estimator's is `estimator.state`."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimizer's."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.optimizer.defaults = defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to both: its settings are the inner optimizer's, the estimator has its own.

        The parameters may be named where the inner optimizer's are.

        Raises:
            ValueError, TypeError: one of them refuses it; neither has it.
        """
        params = param_group["params"]
        if not isinstance(params, set):  # torch refuses it: it has no order
            params = [params] if isinstance(params, Tensor) else list(params)
        own = params
        if "param_names" not in self.estimator.param_groups[0]:  # names are the inner one's
            own = [p[1] if isinstance(p, tuple) else p for p in params]
        both = self.estimator.param_groups, self.optimizer.param_groups
        sizes = [len(groups) for groups in both]
        try:
            self.estimator.add_param_group({"params": own})
            self.optimizer.add_param_group({**param_group, "params": params})
        except Exception:
            for groups, size in zip(both, sizes, strict=True):
                del groups[size:]
            raise

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both, in the form of the inner optimizer's state dict.

        The estimator's variables stand beside a parameter's other state, as "estimator.a" and the
        like; its groups are the entry "estimator" of the first group. So whatever maps a state dict
        by its parameters (`torch.distributed.checkpoint`) carries both.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        inner = self.optimizer.state_dict()
        state = {key: dict(entry) for key, entry in inner["state"].items()}
        learned = self.estimator.state
        for key, p in zip(
            params_of(inner["param_groups"]), params_of(self.param_groups), strict=True
        ):
            for name, value in learned.get(p, {}).items():
                state.setdefault(key, {})[PREFIX + name] = value
        groups = [
            {**group, "params": len(group["params"])} for group in self.estimator.param_groups
        ]
        first, *others = inner["param_groups"]
        saved = {**inner, "state": state, "param_groups": [{**first, _GROUPS: groups}, *others]}
        for after in self._optimizer_state_dict_post_hooks.values():
            saved = after(self, saved) or saved
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; a resumed run continues bit for bit.

        Raises:
            ValueError: it holds no estimator, another variant of it, or other groups. Whatever one
                of the two raises, neither has been changed.
        """
        check_same_params(self.optimizer, self.estimator)
        state_dict = state_dict.copy()
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = before(self, state_dict) or state_dict
        first, *others = state_dict["param_groups"]
        if _GROUPS not in first:
            raise ValueError(
                "the state dict holds no estimator: load it into the inner optimizer, or load one "
                "that Estimated saved."
            )
        inner_groups = [{k: v for k, v in first.items() if k != _GROUPS}, *others]
        for saved, own in (
            ([len(group["params"]) for group in inner_groups], self.param_groups),
            ([group["params"] for group in first[_GROUPS]], self.estimator.param_groups),
        ):
            sizes = [len(group["params"]) for group in own]
            if saved != sizes:
                raise ValueError(
                    f"the state dict has groups of {saved} parameters, the optimizer has {sizes}: "
                    "make both with the same groups."
                )
        key_of = dict(zip(params_of(self.param_groups), params_of(inner_groups), strict=True))
        inner: dict[Any, Any] = {}
        learned: dict[Any, Any] = {}
        for key, entry in state_dict["state"].items():
            parts = split(entry)
            for part, state in zip(parts, (inner, learned), strict=True):
                if part:
                    state[key] = part
        learned_groups = [
            {**saved, "params": [key_of[p] for p in own["params"]]}
            for saved, own in zip(first[_GROUPS], self.estimator.param_groups, strict=True)
        ]
        # Loading makes new groups and a new state, so that the old ones can be put back.
        old = [
            (each, {"state": each.state, "param_groups": each.param_groups})
            for each in (self.estimator, self.optimizer)
        ]
        self.estimator.load_state_dict({"state": learned, "param_groups": learned_groups})
        try:
            self.optimizer.load_state_dict(
                {**state_dict, "state": inner, "param_groups": inner_groups}
            )
        except Exception:
            for each, content in old:
                each.__setstate__(content)
            raise
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "estimator": self.estimator}

    def __repr__(self) -> str:
        return f"Estimated({self.optimizer!r}, {self.estimator!r})"
