"""The class that gathers a param group, calls a rule, and scatters the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _default_to_fused_or_foreach,  # torch's own choice, so that ours follows it
)

from ..kernels import Rates
from ..rules import Learned, Rule, descend
from ..settings import RATES, check_group, rate_at
from ..vectors import Vectors
from .fused import Part, parts, wanted


class Taken(NamedTuple):
    """What is left of a step on some tensors.

    Attributes:
        params: the parameters.
        estimate: Ĝ of each, real; None where it isn't kept.
        residual: tensors whose joint norm is ‖e‖.
    """

    params: list[Tensor]
    estimate: list[Tensor] | None
    residual: list[Tensor]


class TrainableOptimizer(Optimizer):
    """What the three variants share: everything but the mathematics.

    A variant names its rule and its variables, and says how they begin. The state of a parameter is
    one tensor per variable; a group's clock is `group["step"]`, the number of steps taken. The
    clock starts with the first step whose lr is not 0, so that the dummy step by which
    `torch.distributed.checkpoint` allocates state leaves a fresh optimizer as it was.
    """

    rule: ClassVar[Rule]
    variables: ClassVar[tuple[str, ...]]

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._last: list[Taken] = []
        super().__init__(params, defaults)

    # What a variant says --------------------------------------------------------------------

    def _new_variables(self, param: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return the variables at t = 0 for one parameter (real view, state dtype as wanted)."""
        raise NotImplementedError

    def _learn(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        w: Any,
        g: Vectors,
        *state: Vectors,
        alpha: Any,
        beta: Any,
    ) -> Learned:
        """Call the rule; a variant whose vectors have another shape reshapes here."""
        return type(self).rule(w, g, *state, alpha=alpha, beta=beta)

    def _call(self, part: Part, group: dict[str, Any], rates: Rates) -> Tensor:
        """Call the kernel of this variant's rule; return ‖e‖², 0-dim."""
        raise NotImplementedError

    @property
    def _held(self) -> Any:
        """The state, without bringing it up to date for a reader."""
        return self.state

    # What a user calls ----------------------------------------------------------------------

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
        """
        _health_check(self)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance(descends=True)
        return loss

    def learn(self) -> None:
        """Train A and b on the present gradients, and leave the weights where they are.

        `estimate` then holds Ĝ, for another optimizer to step along. The settings `lr` and
        `weight_decay` have no part in it.

        Raises:
            TypeError: a gradient is sparse; nothing has been changed.
        """
        _health_check(self)
        self._advance(descends=False)

    def _advance(self, descends: bool) -> None:
        gathered = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            state: list[list[Tensor]] = [[] for _ in self.variables]
            self._init_group(group, params, grads, *state)
            gathered.append((group, params, grads, state))
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            self._last = [
                taken
                for piece in gathered
                if piece[1]
                for taken in self._step_group(*piece, descends)
            ]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, and forget the estimate and residual that came from them."""
        super().zero_grad(set_to_none)
        self._last = []

    def estimate(self, param: Tensor) -> Tensor:
        """Return Ĝ of the last step for `param`: shape of `param`, dtype of its state.

        It is kept by a `step()` with keep_estimate=True, and always by `learn()`, until
        `zero_grad()`. With `maximize=True` it estimates the gradient of the negated objective.

        Raises:
            KeyError: `param` took no part in a step since the last `zero_grad()`, or the estimate
                wasn't kept.
        """
        for params, estimate, _ in self._last:
            for place, p in enumerate(params):
                if p is param:
                    if estimate is None:
                        raise KeyError(
                            "the estimate of this step wasn't kept: give keep_estimate=True, to "
                            "the optimizer or in its param group."
                        )
                    value = estimate[place]
                    return torch.view_as_complex(value) if p.is_complex() else value
        raise KeyError(
            f"no estimate for the parameter of shape {tuple(param.shape)}: "
            "ask between step() and zero_grad(), for a parameter that had a gradient."
        )

    def residual_norm(self) -> Tensor:
        """Return ‖e‖₂ of the last step over all parameters, e = g − A w − b: a 0-dim tensor.

        Available from `step()` to `zero_grad()`. Time O(d), no host synchronisation.

        Raises:
            RuntimeError: no step was taken since the last `zero_grad()`.
        """
        pieces = [piece for taken in self._last for piece in taken.residual]
        if not pieces:
            raise RuntimeError("no residual yet: ask between step() and zero_grad().")
        norms = [torch.linalg.vector_norm(piece).to(pieces[0].device) for piece in pieces]
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return total

    def memory(self) -> list[int]:
        """Return the bytes of optimizer state held now, one number per param group.

        State is allocated by the first step; before it, the answer is 0.
        """
        return [
            sum(
                self._held[p][name].nbytes
                for p in group["params"]
                for name in self._held.get(p, ())
            )
            for group in self.param_groups
        ]

    # What torch calls -----------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checked before anything changes; see `torch.optim.Optimizer`."""
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        tensors = [p[1] if isinstance(p, tuple) else p for p in params]
        group = {**self.defaults, **param_group, "params": tensors}
        check_group(group)
        self._check_params(group)
        super().add_param_group({**param_group, "params": params})
        added = self.param_groups[-1]
        device = added["params"][0].device if added["capturable"] and tensors else "cpu"
        added.setdefault("step", torch.zeros((), dtype=torch.int64, device=device))

    def _check_params(self, group: dict[str, Any]) -> None:
        """Raise when this variant can't hold the parameters of `group`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict; the state keeps its own dtype instead of the parameter's.

        `Optimizer.load_state_dict` casts state to the dtype of its parameter, which would round the
        float32 state of a bfloat16 parameter.

        Raises:
            ValueError: the state belongs to another variant, or the groups differ.
        """
        given: dict[str, Any] = {}

        def see(_: Optimizer, final: dict[str, Any]) -> None:
            given.update(final)
            for entry in final["state"].values():
                if set(entry) != set(self.variables):
                    raise ValueError(
                        f"the state dict holds {sorted(entry)}, {type(self).__name__} holds "
                        f"{sorted(self.variables)}: load it into the variant that saved it."
                    )

        def restore(_: Optimizer) -> None:
            for group, saved in zip(self.param_groups, given["param_groups"], strict=True):
                for p, key in zip(group["params"], saved["params"], strict=True):
                    for name, value in given["state"].get(key, {}).items():
                        dtype = self._state_dtype(p, group)
                        self.state[p][name] = value.to(p.device, dtype, copy=True)

        # The last pre-hook sees what every other one made of the state dict, and the first
        # post-hook mends the state before any other one looks at it.
        handles = (
            self.register_load_state_dict_pre_hook(see),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._last = []
        for group in self.param_groups:  # of checkpoints from before these settings
            group.setdefault("fused", None)
            group.setdefault("keep_estimate", False)

    # Gather and scatter ---------------------------------------------------------------------

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *state: list[Tensor]
    ) -> None:
        """Fill the lists with the parameters that have a gradient; make state that is missing.

        The name is torch's: `torch.compile` runs a method of this name without tracing it.
        """
        active = [p for p in group["params"] if p.grad is not None]
        for p in active:
            if p.grad.layout != torch.strided:
                raise TypeError(
                    f"the gradient of the parameter of shape {tuple(p.shape)} is sparse "
                    f"({p.grad.layout}): {type(self).__name__} needs dense gradients."
                )
        for p in active:
            held = self._held[p]
            if not held:
                values = self._new_variables(_real(p.detach()), group)
                held.update(zip(self.variables, values, strict=True))
            params.append(p)
            grads.append(p.grad)
            for name, pieces in zip(self.variables, state, strict=True):
                pieces.append(held[name])

    def _step_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        state: list[list[Tensor]],
        descends: bool,
    ) -> list[Taken]:
        step = group["step"]
        # A float when the clock is a host tensor, which synchronises nothing; inside a graph a
        # tensor, so that the rates change without a recompilation. (The clock itself is no float64:
        # torch.compile takes such a 0-dim tensor for a Python number and loses what is written.)
        t = step.double() if group["capturable"] or torch.compiler.is_compiling() else float(step)
        lr, alpha, beta = (rate_at(group[name], t) for name in RATES)
        rates = Rates(
            lr, alpha, beta, group["weight_decay"], -1.0 if group["maximize"] else 1.0, descends
        )
        taken = []
        left = list(range(len(params)))
        if wanted(group, type(self).rule):
            w, g = [_real(p.detach()) for p in params], [_real(q) for q in grads]
            keeps = group["keep_estimate"] or not descends
            found, left = parts(group, params, w, g, state, keeps)
            for part in found:
                squares = self._call(part, group, rates)
                taken.append(Taken(part.params, part.batch.estimate, [squares.sqrt()]))
        if left:
            lists = [[tensors[i] for i in left] for tensors in (params, grads, *state)]
            applied = self._apply(group, *lists, rates=rates)
            taken.append(applied)
        step.add_(1 if not descends else (step > 0) | (lr != 0))
        return taken

    def _apply(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        *state: list[Tensor],
        rates: Rates,
    ) -> Taken:
        """Take the step by the rule itself, tensor by tensor or with `torch._foreach_*`."""
        differentiable = group["differentiable"]
        foreach = group["foreach"]
        if foreach is None:
            _, foreach = _default_to_fused_or_foreach(params, differentiable, use_fused=False)

        def vectors(tensors: Iterable[Tensor]) -> Vectors:
            return Vectors(
                list(tensors),
                foreach=foreach,
                inplace=not differentiable,
                joint=group.get("scope") == "group",
            )

        targets = [_real(p) for p in params]
        dtypes = [self._state_dtype(p, group) for p in params]
        # Autograd keeps the weights of this step; without a copy the update would overwrite them.
        w = vectors(p.to(t, copy=differentiable) for p, t in zip(targets, dtypes, strict=True))
        g = vectors(_real(q).to(t) for q, t in zip(grads, dtypes, strict=True))
        if group["maximize"]:
            g = g * -1
        learned = self._learn(
            group, params, w, g, *map(vectors, state), alpha=rates.alpha, beta=rates.beta
        )
        if rates.descends:
            w = descend(w, learned.estimate, lr=rates.lr, weight_decay=rates.weight_decay)
        for target, new in zip(targets, w.tensors, strict=True):
            if target is not new:
                target.copy_(new)
        if differentiable:
            for name, new_variable in zip(self.variables, learned.variables, strict=True):
                for p, new in zip(params, new_variable.tensors, strict=True):
                    self._held[p][name] = new
        keeps = group["keep_estimate"] or not rates.descends
        return Taken(params, learned.estimate.tensors if keeps else None, learned.residual.tensors)

    def _state_dtype(self, param: Tensor, group: dict[str, Any]) -> torch.dtype:
        """Return the dtype of `param`'s state: as chosen, else real and at least float32.

        The pieces of a joint vector share the widest of their dtypes.
        """
        if group["state_dtype"] is not None:
            return group["state_dtype"]  # type: ignore[no-any-return]
        dtype = torch.float32
        for p in group["params"] if group.get("scope") == "group" else [param]:
            dtype = torch.promote_types(dtype, _real(p).dtype)
        return dtype


def _health_check(optimizer: Optimizer) -> None:
    """Refuse a CUDA graph without `capturable`, under the name this version of torch has for it."""
    newer = getattr(optimizer, "_accelerator_graph_capture_health_check", None)
    (newer or optimizer._cuda_graph_capture_health_check)()


def _real(x: Tensor) -> Tensor:
    """Return a complex tensor as pairs of reals, sharing memory; a real one as it is."""
    return torch.view_as_real(x) if x.is_complex() else x


def real_numel(param: Tensor) -> int:
    """Return how many real numbers `param` holds: two for a complex one."""
    return param.numel() * (2 if param.is_complex() else 1)
