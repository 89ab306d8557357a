"""The class that gathers a param group, calls a rule, and scatters the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _default_to_fused_or_foreach,  # torch's own choice, so that ours follows it
)

from ..kernels import Rates, computed_in
from ..rules import Learned, Rule, descend
from ..schedules import Schedule
from ..settings import RATES, check_group, rate_at
from ..vectors import Vectors
from .checks import check_gradient, check_memory, check_variables
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


class LastStep:
    """The last step, for who asks for its estimates and residual.

    An object of its own, since torch.compile loses what is assigned to an attribute of an
    optimizer.
    """

    def __init__(self) -> None:
        self.set([])

    def set(self, taken: list[Taken]) -> None:
        """Forget the step before, and keep this one."""
        self.taken = taken
        self._estimates: dict[Tensor, Tensor | None] | None = None

    def estimates(self) -> dict[Tensor, Tensor | None]:
        """Return Ĝ of every parameter that took part; None where it wasn't kept."""
        if self._estimates is None:
            self._estimates = {}
            for params, kept, _ in self.taken:
                estimates = kept if kept is not None else [None] * len(params)
                self._estimates.update(zip(params, estimates, strict=True))
        return self._estimates


class Vector(NamedTuple):
    """The vector w of one model of the gradient: one tensor, or all tensors of a group.

    Attributes:
        numel: its real numbers.
        dtype: the widest of its tensors, real and at least float32.
    """

    numel: int
    dtype: torch.dtype


class Plan(NamedTuple):
    """A step on one group, of which every tensor has been checked.

    Attributes:
        group: the param group.
        rates: of the step.
        parts: what kernels take.
        lists: parameters, gradients and variables that are left to the rule.
    """

    group: dict[str, Any]
    rates: Rates
    parts: list[Part]
    lists: list[list[Tensor]]


class TrainableOptimizer(Optimizer):
    """What the three variants share: everything but the mathematics.

    A variant names its rule and its variables, and says how they begin. The state of a parameter is
    one tensor per variable; a group's clock is `group["step"]`, the number of steps taken. The
    clock starts with the first step whose lr is not 0, so that the dummy step by which
    `torch.distributed.checkpoint` allocates state leaves a fresh optimizer as it was.
    """

    rule: ClassVar[Rule]
    variables: ClassVar[tuple[str, ...]]
    dense: ClassVar[bool] = False  # whether the first variable is a matrix, (d, d)

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._last = LastStep()
        if isinstance(params, set):
            raise TypeError(
                "params is a set, whose order differs from run to run: give the parameters in an "
                "ordered collection, such as a list."
            )
        super().__init__(params, defaults)

    # What a variant says --------------------------------------------------------------------

    def _new_variables(
        self, param: Tensor, group: dict[str, Any], vector: Vector
    ) -> tuple[Tensor, ...]:
        """Return the variables at t = 0 for one parameter (its real view)."""
        raise NotImplementedError

    def _shapes(self, param: Tensor, vector: Vector) -> tuple[Sequence[int], ...]:
        """Return the shape of each variable of one parameter (its real view)."""
        return (param.shape,) * len(self.variables)

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
        # All groups are checked before the first one moves.
        planned = [self._plan(group, descends) for group in self.param_groups]
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            taken = [taken for plan in planned if plan for taken in self._step_group(plan)]
        self._last.set(taken)

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
        estimates = self._last.estimates()
        if param in estimates:
            value = estimates[param]
            if value is None:
                raise KeyError(
                    "the estimate of this step wasn't kept: give keep_estimate=True, to "
                    "the optimizer or in its param group."
                )
            return torch.view_as_complex(value) if param.is_complex() else value
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
        pieces = [piece for taken in self._last.taken for piece in taken.residual]
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
            sum(value.nbytes for p in group["params"] for value in self.state.get(p, {}).values())
            for group in self.param_groups
        ]

    # What torch calls -----------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checked before anything changes; see `torch.optim.Optimizer`."""
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else params
        params = params if isinstance(params, set) else list(params)  # torch refuses a set
        tensors = [p[1] if isinstance(p, tuple) else p for p in params]
        if not isinstance(params, set) and all(isinstance(p, Tensor) for p in tensors):
            group = {**self.defaults, **param_group, "params": tensors}
            check_group(group)
            self._check_params(group)
        _add_param_group(self, {**param_group, "params": params})
        added = self.param_groups[-1]
        device = added["params"][0].device if added["capturable"] and tensors else "cpu"
        # A clock of its own, also where the group is that of another optimizer.
        added["step"] = torch.zeros((), dtype=torch.int64, device=device)

    def _check_params(self, group: dict[str, Any]) -> None:
        """Raise when this variant can't hold the parameters of `group`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict; the state keeps its own dtype instead of the parameter's.

        `Optimizer.load_state_dict` casts state to the dtype of its parameter, which would round the
        float32 state of a bfloat16 parameter.

        Raises:
            ValueError, TypeError: the state belongs to another variant or to parameters of other
                shapes, the groups differ, or a setting can't work; nothing has been changed.
        """
        given: dict[str, Any] = {}

        def see(_: Optimizer, final: dict[str, Any]) -> None:
            given.update(final)
            for group, saved in zip(self.param_groups, final["param_groups"], strict=False):
                self._check_loaded(group, saved, final["state"])

        def restore(_: Optimizer) -> None:
            for group, saved in zip(self.param_groups, given["param_groups"], strict=True):
                vector = self._vector(group)
                for p, key in zip(group["params"], saved["params"], strict=True):
                    for name, value in (given["state"].get(key) or {}).items():
                        dtype = self._state_dtype(p, group, vector)
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

    def _check_loaded(
        self, group: dict[str, Any], saved: dict[str, Any], state: dict[Any, Any]
    ) -> None:
        """Raise when `saved` and its entries of `state` can't become those of `group`."""
        missing = {"step", *RATES} - set(saved)
        if missing:
            raise ValueError(
                f"the param groups of the state dict have no {', '.join(sorted(missing))}: load "
                f"one that {type(self).__name__} saved."
            )
        merged = {**self.defaults, **saved, "params": group["params"]}
        check_group(merged)
        vector = self._vector(merged)
        for p, key in zip(group["params"], saved["params"], strict=False):
            if held := state.get(key):
                shapes = zip(self.variables, self._shapes(_real(p), vector or _own(p)), strict=True)
                check_variables(held, dict(shapes), None, None, p, type(self).__name__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._last = LastStep()

    # Gather and scatter ---------------------------------------------------------------------

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *state: list[Tensor]
    ) -> None:
        """Fill the lists with the parameters that have a gradient; make state that is missing.

        Every tensor is checked: what the lists hold belongs together.

        The name is torch's: `torch.compile` runs a method of this name without tracing it.
        """
        active = [p for p in group["params"] if p.grad is not None]
        name = type(self).__name__
        for p in active:
            check_gradient(p, p.grad, name)
            check_memory(p)
        joint = self._vector(group)
        for p in active:
            real = _real(p.detach())
            vector = joint or _own(p)
            shapes = self._shapes(real, vector)
            dtype = self._state_dtype(p, group, joint)
            held = self.state[p]
            if not held:
                values = self._new_variables(real, group, vector)
                held.update(zip(self.variables, values, strict=True))
            if not _fits(held, self.variables, shapes, dtype, p.device):
                expected = dict(zip(self.variables, shapes, strict=True))
                check_variables(held, expected, dtype, p.device, p, name)
            params.append(p)
            grads.append(p.grad)
            for variable, pieces in zip(self.variables, state, strict=True):
                pieces.append(held[variable])

    def _plan(self, group: dict[str, Any], descends: bool) -> Plan | None:
        """Gather what a step on this group needs, checked; None when nothing has a gradient."""
        params: list[Tensor] = []
        grads: list[Tensor] = []
        state: list[list[Tensor]] = [[] for _ in self.variables]
        self._init_group(group, params, grads, *state)
        if not params:
            return None
        step = group["step"]
        # A float when the clock is a host tensor, which synchronises nothing; inside a graph a
        # tensor, so that the rates change without a recompilation. (The clock itself is no float64:
        # torch.compile takes such a 0-dim tensor for a Python number and loses what is written.)
        t = step.double() if group["capturable"] or torch.compiler.is_compiling() else float(step)
        lr, alpha, beta = (rate_at(group[name], t) for name in RATES)
        rates = Rates(
            lr,
            alpha,
            beta,
            float(group["weight_decay"]),
            -1.0 if group["maximize"] else 1.0,
            descends,
            group["keep_estimate"] or not descends,
        )
        found: list[Part] = []
        left = list(range(len(params)))
        rule = type(self).rule
        if wanted(group, rule):
            w = [_real(p.detach()) for p in params]
            g = [_real(q.detach()) for q in grads]
            dense = self.dense
            found, left = parts(rule, group, params, w, g, state, rates.keep_estimate, dense)
        lists = [[tensors[i] for i in left] for tensors in (params, grads, *state)]
        return Plan(group, rates, found, lists)

    def _step_group(self, plan: Plan) -> list[Taken]:
        group, rates, found, lists = plan
        for kind in {p.device.type for p in lists[0]}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                with torch.autocast(kind, enabled=False):  # a step is no place for half precision
                    return self._step_group(plan)
        taken = []
        for part in found:
            if rates.descends:
                torch.autograd.graph.increment_version(part.batch.w)
            squares = self._call(part, group, rates)
            estimate = part.batch.estimate if rates.keep_estimate else None
            taken.append(Taken(part.params, estimate, [squares.sqrt()]))
        if lists[0]:
            applied = self._apply(group, *lists, rates=rates)
            taken.append(applied)
        # A schedule that starts at 0 goes on from there; a plain lr of 0 holds a fresh clock.
        held = rates.descends and not isinstance(group["lr"], Schedule)
        step = group["step"]
        step.add_((step > 0) | (rates.lr != 0) if held else 1)
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

        joint = self._vector(group)
        targets = [_real(p) for p in params]
        stored = [self._state_dtype(p, group, joint) for p in params]
        dtypes = [computed_in(x.dtype, t) for x, t in zip(targets, stored, strict=True)]
        # Autograd keeps the weights of this step; without a copy the update would overwrite them.
        w = vectors(p.to(t, copy=differentiable) for p, t in zip(targets, dtypes, strict=True))
        g = vectors(_real(q).to(t) for q, t in zip(grads, dtypes, strict=True))
        if group["maximize"]:
            g = g * -1
        variables = [
            tensors if dense else [x.to(t) for x, t in zip(tensors, dtypes, strict=True)]
            for dense, tensors in zip([self.dense, *[False] * len(state)], state, strict=False)
        ]
        learned = self._learn(
            group, params, w, g, *map(vectors, variables), alpha=rates.alpha, beta=rates.beta
        )
        for name, olds, news in zip(self.variables, state, learned.variables, strict=True):
            for p, old, new in zip(params, olds, news.tensors, strict=True):
                if differentiable:
                    self.state[p][name] = new.to(old.dtype)
                elif new is not old and new.data_ptr() != old.data_ptr():
                    old.copy_(new)
        if rates.descends:
            w = descend(w, learned.estimate, lr=rates.lr, weight_decay=rates.weight_decay)
            for target, new in zip(targets, w.tensors, strict=True):
                if target is not new:
                    target.copy_(new)
        estimate = learned.estimate.tensors if rates.keep_estimate else None
        return Taken(params, estimate, learned.residual.tensors)

    def _state_dtype(
        self, param: Tensor, group: dict[str, Any], joint: Vector | None
    ) -> torch.dtype:
        """Return the dtype of `param`'s state: as chosen, else real and at least float32.

        The pieces of a joint vector share the widest of their dtypes.
        """
        if group["state_dtype"] is not None:
            return group["state_dtype"]  # type: ignore[no-any-return]
        return (joint or _own(param)).dtype

    @staticmethod
    def _vector(group: dict[str, Any]) -> Vector | None:
        """Return the vector that the tensors of a group make together, if they make one."""
        if group.get("scope") != "group":
            return None
        dtype = torch.float32
        for p in group["params"]:
            dtype = torch.promote_types(dtype, _real(p).dtype)
        return Vector(sum(real_numel(p) for p in group["params"]), dtype)


# torch wraps this method to keep torch.compile out of it, by importing the compiler: a second in
# every process, for nothing where nothing is compiled.
_add_param_group = getattr(Optimizer.add_param_group, "__wrapped__", Optimizer.add_param_group)


def _health_check(optimizer: Optimizer) -> None:
    """Refuse a CUDA graph without `capturable`, under the name this version of torch has for it."""
    newer = getattr(optimizer, "_accelerator_graph_capture_health_check", None)
    (newer or optimizer._cuda_graph_capture_health_check)()


def _real(x: Tensor) -> Tensor:
    """Return a complex tensor as pairs of reals, sharing memory; a real one as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _own(param: Tensor) -> Vector:
    """Return the vector that `param` is on its own."""
    return Vector(real_numel(param), torch.promote_types(_real(param).dtype, torch.float32))


def _fits(
    held: dict[str, Any],
    names: tuple[str, ...],
    shapes: tuple[Sequence[int], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> bool:
    """Whether `held` has these variables; `check_variables` says what is wrong."""
    if len(held) != len(names):
        return False
    for name, shape in zip(names, shapes, strict=True):
        x = held.get(name)
        if not isinstance(x, Tensor) or x.shape != shape or x.dtype != dtype or x.device != device:
            return False
    return True


def real_numel(param: Tensor) -> int:
    """Return how many real numbers `param` holds: two for a complex one."""
    return param.numel() * (2 if param.is_complex() else 1)
