"""The class that learns Ĝ = A x + b, as a torch optimizer: groups, state, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ..forms import Form
from ..kernels import StepRates
from ..learning import Gradient, Weights
from ..memory import available_bytes, human_bytes
from ..schedules import Schedule
from ..settings import RATES, check_group, rate_at, settings_of, with_settings
from .checks import check_gradient, check_variables, gradients_fit, variables_fit
from .fused import KernelCall, kernel_calls, may_run_fused
from .model import (
    Model,
    Vector,
    joint_vector,
    own_vector,
    real_numel,
    real_shape,
    state_dtype,
)
from .plain import StepRecord, Tensors, take_step

# torch wraps this method to keep torch.compile out of it, by importing the compiler: a second in
# every process, for nothing where nothing is compiled.
_add_param_group = getattr(Optimizer.add_param_group, "__wrapped__", Optimizer.add_param_group)


class LastStep:
    """The last step, for who asks for its estimates and residual.

    An object of its own, since torch.compile loses what is assigned to an attribute of an
    optimizer.
    """

    def __init__(self) -> None:
        self.set([])

    def set(self, records: list[StepRecord]) -> None:
        """Forget the step before, and keep this one."""
        self.records = records
        self._estimates: dict[Tensor, Tensor | None] | None = None

    def estimates(self) -> dict[Tensor, Tensor | None]:
        """Return Ĝ of every parameter that took part; None where it wasn't kept."""
        if self._estimates is None:
            self._estimates = {}
            for params, kept, _ in self.records:
                estimates = kept if kept is not None else [None] * len(params)
                self._estimates.update(zip(params, estimates, strict=True))
        return self._estimates


class Plan(NamedTuple):
    """A step on one group, of which every tensor has been checked and nothing changed.

    Attributes:
        model: what the group learns.
        group: the param group.
        rates: of the step.
        calls: what kernels take.
        tensors: what is left to plain torch.
    """

    model: Model
    group: dict[str, Any]
    rates: StepRates
    calls: list[KernelCall]
    tensors: Tensors


class Estimator(Optimizer):
    """Learns Ĝ = A x + b from the gradients that it sees, and moves no weight.

        estimator = Estimator(params, form=Kronecker(), rule=Normalised(0.5, 0.1))
        optimizer = TO(estimator, lr=0.1)                              # w − γ Ĝ
        optimizer = Estimated(torch.optim.AdamW(params), estimator)    # any other step

    Three free choices: the form of A, the rule by which it is learned, and the step. Fields of
    form, rule and reading are settings of a param group under their own names (alpha, beta, rank),
    so that groups may differ in them.

    The state of a parameter is one tensor per variable; a group's clock is `group["step"]`, the
    number of steps learned from. Memory: θ and b; see the form. Time: see the form; the pairs of
    form and rule in `optim.paths` have kernels or closed forms, all others take `rules.learn`.

    Args:
        params: parameters, named parameters or param groups.
        form: of A.
        rule: by which A and b are learned. Default: the paper's, `Gradient()`.
        reading: what A reads of the weights. Default: the weights, `Weights()`.
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
        settings: more settings of a param group, of a subclass.

    Raises:
        ValueError, TypeError: a setting can't work; the sentence names it, its value and what to
            do.
        MemoryError: A doesn't fit; the sentence names d, the bytes and the ways out.
    """

    def __init__(
        self,
        params: ParamsT,
        form: Form,
        rule: Gradient | None = None,
        *,
        reading: Weights | None = None,
        scope: str = "tensor",
        state_dtype: torch.dtype | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
        keep_estimate: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **settings: Any,
    ) -> None:
        self.form, self.rule, self.reading = form, rule or Gradient(), reading or Weights()
        for part, kind in ((form, Form), (self.rule, Gradient), (self.reading, Weights)):
            if not isinstance(part, kind):
                raise TypeError(
                    f"{part!r} is a {type(part).__name__}: give an instance of {kind.__name__}."
                )
        if isinstance(params, set):
            raise TypeError(
                "params is a set, whose order differs from run to run: give the parameters in an "
                "ordered collection, such as a list."
            )
        self._last = LastStep()
        self._complete = False  # the groups of `params` are added one by one, and checked together
        defaults = {
            **settings,
            **settings_of(self.rule),
            **settings_of(form),
            **settings_of(self.reading),
            **({"scope": scope} if form.rowwise else {}),
            "state_dtype": state_dtype,
            "foreach": foreach,
            "fused": fused,
            "keep_estimate": keep_estimate,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        if scope != "tensor" and not form.rowwise:
            raise ValueError(
                f"scope={scope!r} needs a form with a row per weight, {type(form).__name__} has "
                "none: give scope='tensor'."
            )
        super().__init__(params, defaults)
        self._check_memory(self.param_groups)
        self._complete = True

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

    def learn(self) -> None:
        """Train A and b on the present gradients, and leave the weights where they are.

        `estimate` then holds Ĝ, for another optimizer to step along. The settings `lr` and
        `weight_decay` have no part in it.

        Raises:
            TypeError: a gradient is sparse; nothing has been changed.
            ValueError: a gradient or the state doesn't fit the weights; nothing has been changed.
        """
        self._update(descends=False)

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
        if param not in estimates:
            raise KeyError(
                f"no estimate for the parameter of shape {tuple(param.shape)}: "
                "ask between step() and zero_grad(), for a parameter that had a gradient."
            )
        value = estimates[param]
        if value is None:
            raise KeyError(
                "the estimate of this step wasn't kept: give keep_estimate=True, to the optimizer "
                "or in its param group."
            )
        return torch.view_as_complex(value) if param.is_complex() else value

    def residual_norm(self) -> Tensor:
        """Return ‖e‖₂ of the last step over all parameters, e = g − A x − b: a 0-dim tensor.

        Available from `step()` to `zero_grad()`. Time O(d), no host synchronisation.

        Raises:
            RuntimeError: no step was taken since the last `zero_grad()`.
        """
        pieces = [piece for record in self._last.records for piece in record.residual]
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

    def model(self, group: dict[str, Any]) -> Model:
        """Return the form, rule and reading of a param group, with its settings."""
        return Model(with_settings(self.form, group), self.rule, with_settings(self.reading, group))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of what the state of a parameter holds."""
        return Model(self.form, self.rule, self.reading).variables

    # What torch calls -----------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checked before anything changes; see `torch.optim.Optimizer`."""
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else params
        params = params if isinstance(params, set) else list(params)  # torch refuses a set
        tensors = [p[1] if isinstance(p, tuple) else p for p in params]
        if not isinstance(params, set) and all(isinstance(p, Tensor) for p in tensors):
            self._check_group({**self.defaults, **param_group, "params": tensors})
        _add_param_group(self, {**param_group, "params": params})
        added = self.param_groups[-1]
        # A clock of its own, also where the group is that of another optimizer.
        added["step"] = torch.zeros((), dtype=torch.int64, device=_clock_device(added))

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
                group["step"] = group["step"].to(_clock_device(group))
                joint = joint_vector(group)
                for p, key in zip(group["params"], saved["params"], strict=True):
                    dtype = state_dtype(group, joint or own_vector(p))
                    for name, value in (given["state"].get(key) or {}).items():
                        self.state[p][name] = value.to(p.device, dtype, copy=True)

        # The last pre-hook sees what every other one made of the state dict, and the first
        # post-hook puts the state right before any other one looks at it.
        handles = (
            self.register_load_state_dict_pre_hook(see),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {**state, "form": self.form, "rule": self.rule, "reading": self.reading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._last = LastStep()
        self._complete = True

    # Checks ---------------------------------------------------------------------------------

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise when a group has a setting that can't work, or A of it doesn't fit in memory."""
        check_group(group)
        model = self.model(group)
        devices = {p.device for p in group["params"]}
        if group.get("scope") == "group" and len(devices) > 1 and model.form.dense:
            raise ValueError(
                f"scope='group' needs one device, the group has {sorted(map(str, devices))}: "
                "give scope='tensor' or one group per device."
            )
        if self._complete:
            self._check_memory([*self.param_groups, group])

    def _check_memory(self, groups: list[dict[str, Any]]) -> None:
        """Raise when A of these groups doesn't fit into what their devices have available."""
        needed: dict[torch.device, int] = {}
        weights: dict[torch.device, int] = {}
        for group in groups:
            model, joint = self.model(group), joint_vector(group)
            if not (model.form.large and group.get("check_memory", True)):
                continue
            for p in group["params"]:
                if p not in self.state:
                    vector = joint or own_vector(p)
                    shapes = model.form.shapes(real_shape(p), vector.numel)
                    numbers = sum(torch.Size(shape).numel() for shape in shapes)
                    size = numbers * state_dtype(group, vector).itemsize
                    needed[p.device] = needed.get(p.device, 0) + size
                    weights[p.device] = weights.get(p.device, 0) + real_numel(p)
        for device, size in needed.items():
            available = available_bytes(device)
            if available is not None and size > available:
                raise MemoryError(
                    f"A needs {size} bytes ({human_bytes(size)}) for d = {weights[device]} "
                    f"weights, {device} has {human_bytes(available)} available: use "
                    "scope='tensor', RankOneTO or DiagonalTO, or check_memory=False to try it all "
                    "the same."
                )

    def _check_loaded(
        self, group: dict[str, Any], saved: dict[str, Any], state: dict[Any, Any]
    ) -> None:
        """Raise when `saved` and its entries of `state` can't become those of `group`."""
        missing = ({"step", *RATES} & set(group)) - set(saved)
        if missing:
            raise ValueError(
                f"the param groups of the state dict have no {', '.join(sorted(missing))}: load "
                f"one that {type(self).__name__} saved."
            )
        merged = {**self.defaults, **saved, "params": group["params"]}
        check_group(merged)
        model, joint = self.model(merged), joint_vector(merged)
        for p, key in zip(group["params"], saved["params"], strict=False):
            if held := state.get(key):
                shapes = model.shapes(real_shape(p), joint or own_vector(p))
                expected = dict(zip(model.variables, shapes, strict=True))
                check_variables(held, expected, None, None, p, type(self).__name__)

    # The step -------------------------------------------------------------------------------

    def _update(self, descends: bool) -> None:
        """Learn from the gradients; with `descends`, step along the estimate, too."""
        _health_check(self)
        # All groups are checked before the first one moves.
        planned = [self._plan(group, descends) for group in self.param_groups]
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            records = [record for plan in planned if plan for record in self._take(plan)]
        self._last.set(records)

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *state: list[Tensor]
    ) -> None:
        """Fill the lists with the parameters that have a gradient; make state that is missing.

        Every tensor is checked: what the lists hold belongs together.

        The name is torch's: `torch.compile` runs a method of this name without tracing it.
        """
        active = [p for p in group["params"] if p.grad is not None]
        found = [p.grad for p in active if p.grad is not None]
        model, joint, name = self.model(group), joint_vector(group), type(self).__name__
        if not gradients_fit(active, found):
            for p, grad in zip(active, found, strict=True):
                check_gradient(p, grad, name)
        held = [self.state[p] for p in active]
        for p, variables in zip(active, held, strict=True):
            if not variables:
                self._start(p, variables, group, model, joint)
        names = model.variables
        alike = {p.dtype for p in active} == {p.dtype for p in active[:1]}
        if alike and not any(map(Tensor.is_complex, active[:1])):
            vector = joint or own_vector(active[0]) if active else None
            values = [[variables.get(each) for variables in held] for each in names]
            alike = {len(variables) for variables in held} <= {len(names)} and (
                vector is None
                or variables_fit(
                    active, values, _shapes(model, active, joint), state_dtype(group, vector)
                )
            )
        else:
            alike = False
        if not alike:
            for p, variables in zip(active, held, strict=True):
                vector = joint or own_vector(p)
                expected = zip(names, model.shapes(real_shape(p), vector), strict=True)
                dtype = state_dtype(group, vector)
                check_variables(variables, dict(expected), dtype, p.device, p, name)
        params += active
        grads += found
        for each, pieces in zip(names, state, strict=True):
            pieces += [variables[each] for variables in held]

    def _start(
        self,
        param: Tensor,
        variables: dict[str, Tensor],
        group: dict[str, Any],
        model: Model,
        joint: Vector | None,
    ) -> None:
        """Fill the variables of a parameter that takes its first step."""
        if model.form.dense and hasattr(param, "placements"):
            raise TypeError(
                f"{type(self).__name__} can't hold a sharded parameter (DTensor), whose rows of A "
                "need all weights: use DiagonalTO or RankOneTO."
            )
        vector = joint or own_vector(param)
        variables.update(model.init(param, state_dtype(group, vector), vector))

    def _plan(self, group: dict[str, Any], descends: bool) -> Plan | None:
        """Gather what a step on this group needs, checked; None when nothing has a gradient."""
        model = self.model(group)
        tensors = Tensors([], [], [[] for _ in model.variables])
        self._init_group(group, tensors.params, tensors.grads, *tensors.state)
        if not tensors.params:
            return None
        step = group["step"]
        # A float when the clock is a host tensor, which synchronises nothing; inside a graph a
        # tensor, so that the rates change without a recompilation. (The clock itself is no float64:
        # torch.compile takes such a 0-dim tensor for a Python number and loses what is written.)
        t = step.double() if group["capturable"] or torch.compiler.is_compiling() else float(step)
        lr, alpha, beta = (rate_at(group.get(name, 0.0), t) for name in RATES)
        rates = StepRates(
            lr,
            alpha,
            beta,
            float(group.get("weight_decay", 0.0)),
            -1.0 if group.get("maximize") else 1.0,
            descends,
            group["keep_estimate"] or not descends,
        )
        calls: list[KernelCall] = []
        if may_run_fused(group):
            calls, tensors = kernel_calls(model, group, tensors, rates.keep_estimate)
        return Plan(model, group, rates, calls, tensors)

    def _take(self, plan: Plan) -> list[StepRecord]:
        model, group, rates, calls, tensors = plan
        for kind in {p.device.type for p in tensors.params}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                with torch.autocast(kind, enabled=False):  # a step is no place for half precision
                    return self._take(plan)
        records = [call.run(rates) for call in calls]
        if tensors.params:
            record = take_step(model, group, tensors, rates, self.state)
            records.append(record)
        # A schedule that starts at 0 goes on from there; a plain lr of 0 holds a fresh clock, so
        # that the dummy step by which torch.distributed.checkpoint allocates state leaves a fresh
        # optimizer as it was.
        may_hold = rates.descends and not isinstance(group["lr"], Schedule)
        step = group["step"]
        step.add_((step > 0) | (rates.lr != 0) if may_hold else 1)
        return records


def _shapes(model: Model, params: list[Tensor], joint: Vector | None) -> list[list[Sequence[int]]]:
    """The shapes of the variables of real parameters: a list per variable."""
    if model.form.like_weights:
        return [[p.shape for p in params]] * len(model.variables)
    each = [model.shapes(p.shape, joint or own_vector(p)) for p in params]
    return [list(shapes) for shapes in zip(*each, strict=True)]


def evaluated(closure: Callable[[], float] | None) -> float | None:
    """Return what the closure of a step returns, called with gradients enabled."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _clock_device(group: dict[str, Any]) -> torch.device:
    on_device = group["capturable"] and group["params"]
    return group["params"][0].device if on_device else torch.device("cpu")


def _health_check(optimizer: Optimizer) -> None:
    """Refuse a CUDA graph without `capturable`, under the name this version of torch has for it."""
    newer = getattr(optimizer, "_accelerator_graph_capture_health_check", None)
    (newer or optimizer._cuda_graph_capture_health_check)()
