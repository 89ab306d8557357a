"""What settings, tensors and state dicts must be: one rule for kernels and plain torch.

Users resize, transpose, move, clip and replace weights between two steps, edit `param_groups` and
`state`, and load state dicts of other models. Whatever doesn't fit is one sentence, before anything
is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..forms import Form
from ..learning import Gradient, Weights
from ..memory import available_bytes, human_bytes
from ..settings import check_group, settings_of
from .model import LEARNS, Model, joint_vector, own_vector, real_numel, real_shape, state_dtype


def check_parts(
    form: Form, rule: Gradient, reading: Weights, settings: Mapping[str, Any], optimizer: str
) -> None:
    """Raise unless form, rule and reading are what they should be, with settings of their own.

    Args:
        form: of A.
        rule: by which A and b are learned.
        reading: what A reads.
        settings: keyword arguments that nothing else of `optimizer` takes.
        optimizer: name of its class.

    Raises:
        TypeError: a part is of another kind, or a setting isn't known.
        ValueError: two parts have a setting of the same name.
    """
    parts = ((form, Form), (rule, Gradient), (reading, Weights))
    owner: dict[str, str] = {}
    for part, kind in parts:
        if not isinstance(part, kind):
            raise TypeError(
                f"{part!r} is a {type(part).__name__}: give an instance of {kind.__name__}."
            )
        name = type(part).__name__
        for setting in settings_of(part):
            if setting in owner:
                raise ValueError(
                    f"{owner[setting]} and {name} both have a setting {setting!r}: rename one."
                )
            owner[setting] = name
    for setting, value in settings.items():
        if setting in owner:
            raise TypeError(
                f"{setting}={value!r} is a setting of {owner[setting]}: give "
                f"{owner[setting]}({setting}=…) to {optimizer}."
            )
        raise TypeError(f"{optimizer} has no setting {setting!r}: remove it, or correct its name.")


def check_settings(model_of: Callable[[dict[str, Any]], Model], group: dict[str, Any]) -> None:
    """Raise a ValueError or TypeError when a param group has a setting that can't work."""
    check_group(group)
    form = model_of(group).form
    if group.get("scope", "tensor") == "tensor":
        return
    if not form.rowwise:
        raise ValueError(
            f"scope={group['scope']!r} needs a form with a row per weight, {type(form).__name__} "
            "has none: give scope='tensor'."
        )
    devices = {p.device for p in group["params"]}
    if len(devices) > 1:
        raise ValueError(
            f"scope='group' needs one device, the group has {sorted(map(str, devices))}: "
            "give scope='tensor' or one group per device."
        )


def check_room(
    model_of: Callable[[dict[str, Any]], Model],
    groups: Sequence[dict[str, Any]],
    state: Mapping[Tensor, Any],
) -> None:
    """Raise a MemoryError when A of these groups doesn't fit into what their devices have left."""
    needed: dict[torch.device, int] = {}
    weights: dict[torch.device, int] = {}
    large = [group for group in groups if group.get("check_memory")]
    for group in large:
        form, joint = model_of(group).form, joint_vector(group)
        for p in group["params"]:
            if p not in state:
                vector = joint or own_vector(p)
                shapes = form.shapes(real_shape(p), vector.numel)
                numbers = sum(torch.Size(shape).numel() for shape in shapes)
                size = numbers * state_dtype(group, vector).itemsize
                needed[p.device] = needed.get(p.device, 0) + size
                weights[p.device] = weights.get(p.device, 0) + real_numel(p)
    smaller = "scope='tensor', " if any(group.get("scope") == "group" for group in large) else ""
    for device, size in needed.items():
        available = available_bytes(device)
        if available is not None and size > available:
            raise MemoryError(
                f"A needs {size} bytes ({human_bytes(size)}) for d = {weights[device]} "
                f"weights, {device} has {human_bytes(available)} available: use "
                f"{smaller}RankOneTO or DiagonalTO, or check_memory=False to try it all the same."
            )


def check_loaded(
    model_of: Callable[[dict[str, Any]], Model],
    defaults: dict[str, Any],
    group: dict[str, Any],
    saved: dict[str, Any],
    state: dict[Any, Any],
    optimizer: str,
) -> None:
    """Raise when a saved group and its entries of `state` can't become those of `group`.

    Raises:
        ValueError, TypeError: a setting is missing or can't work, or the state belongs to another
            form, rule or reading, or to parameters of other shapes.
    """
    held_by = list(zip(group["params"], map(state.get, saved["params"]), strict=False))
    for p, held in held_by:
        if held:
            check_names(held, model_of(group).variables, p, optimizer)
    learned, learns = saved.get(LEARNS), model_of(group).name
    if learned not in (None, learns):  # None: by an older version, which didn't say
        raise ValueError(
            f"the state dict holds what {learned} has learned, {optimizer} learns {learns}: load "
            "it into an optimizer of the form, rule and reading that saved it."
        )
    own = {name for part in model_of(group) for name in settings_of(part)}
    missing = ({"step", "lr", *own} & set(group)) - set(saved)
    if missing:
        raise ValueError(
            f"the param groups of the state dict have no {', '.join(sorted(missing))}: load "
            f"one that {optimizer} saved."
        )
    step = saved["step"]
    if not isinstance(step, int | Tensor) or (
        isinstance(step, Tensor) and step.ndim + step.is_meta
    ):
        raise ValueError(f"step={step!r} of the state dict is no clock: give a whole number.")
    merged = {**defaults, **saved, "params": group["params"]}
    check_settings(model_of, merged)
    model, joint = model_of(merged), joint_vector(merged)
    for p, held in held_by:
        if held:
            shapes = model.shapes(real_shape(p), joint or own_vector(p))
            expected = dict(zip(model.variables, shapes, strict=True))
            check_variables(held, expected, None, None, p, optimizer)


def check_storage(params: Sequence[Tensor], state: Sequence[Sequence[Tensor]] = ()) -> None:
    """Raise a ValueError when weights, gradients or state can't be read or written in place.

    Whoever frees a storage by `resize_(0)` and steps before it is back would read address 0. In an
    expanded tensor many numbers are one, which can't be written to.

    Args:
        params: whose weights and gradients are looked at.
        state: a list per variable, each as long as `params`.
    """
    lists: list[tuple[str, Sequence[Tensor | None], bool]] = [
        ("data", params, True),
        ("gradient", [p.grad for p in params], False),
        *(("state", variables, True) for variables in state),
    ]
    for what, tensors, written in lists:
        plain: list[Any] = [x for x in tensors if _has_address(x)]
        freed = 0 in map(Tensor.data_ptr, plain)
        if not freed and (not written or all(map(Tensor.is_contiguous, plain))):
            continue
        for p, x in zip(params, tensors, strict=True):
            if x is None or not _has_address(x):
                continue
            if x.numel() and not x.data_ptr():
                raise ValueError(
                    f"the {what} of the parameter of shape {tuple(p.shape)} has no memory, its "
                    "storage was freed: restore it before step()."
                )
            strides = zip(x.shape, x.stride(), strict=True)
            if written and any(n > 1 and not stride for n, stride in strides):
                raise ValueError(
                    f"the {what} of the parameter of shape {tuple(p.shape)} has an expanded "
                    "tensor, in which many numbers share one place: clone() it."
                )


def _has_address(x: Tensor | None) -> bool:
    """Whether its memory is all of it: it isn't for a DTensor, or a tensor on "meta"."""
    return type(x) in (Tensor, Parameter) and (x.is_cpu or x.is_cuda)  # type: ignore[union-attr]


def check_gradient(param: Tensor, grad: Tensor, optimizer: str) -> None:
    """Raise unless `grad` is a dense gradient for the weights as they are now.

    Raises:
        TypeError: it is sparse.
        ValueError: its shape or device isn't that of `param`.
    """
    if grad.layout != torch.strided:
        raise TypeError(
            f"the gradient of the parameter of shape {tuple(param.shape)} is sparse "
            f"({grad.layout}): {optimizer} needs dense gradients."
        )
    if grad.shape != param.shape or grad.device != param.device:
        raise ValueError(
            f"a gradient of shape {tuple(grad.shape)} on {grad.device} can't belong to the "
            f"parameter of shape {tuple(param.shape)} on {param.device}, which was replaced after "
            "backward(): call zero_grad() and backward() again."
        )


def check_names(
    held: Mapping[str, Any], names: Collection[str], param: Tensor, optimizer: str
) -> None:
    """Raise a ValueError unless `held`, as in `check_variables`, has variables of these names."""
    if set(held) != set(names):
        raise ValueError(
            f"the state of the parameter of shape {tuple(param.shape)} holds {sorted(held)}, "
            f"{optimizer} holds {sorted(names)}: load it into the variant that saved it."
        )


def check_variables(
    held: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    dtype: torch.dtype | None,
    device: torch.device | None,
    param: Tensor,
    optimizer: str,
) -> None:
    """Raise unless `held` has the variables of `shapes`, for the weights as they are now.

    Args:
        held: the state of `param`, or what a state dict has for it.
        shapes: of each variable by name.
        dtype: of every variable; None leaves it open, for what is about to be converted.
        device: of every variable; None likewise.
        param: the parameter.
        optimizer: name of its class.

    Raises:
        ValueError: a variable is missing, isn't a tensor, or differs; the sentence says in what.
    """
    if param.is_conj():
        raise ValueError(
            f"the weights of the parameter of shape {tuple(param.shape)} are a conjugate view, "
            "which can't be written to as pairs of reals: set p.data = p.data.resolve_conj()."
        )
    check_names(held, shapes, param, optimizer)
    for name, shape in shapes.items():
        value = held[name]
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} of the parameter of shape {tuple(param.shape)} is a "
                f"{type(value).__name__}: it must be a tensor of shape {tuple(shape)}."
            )
        if value.layout != torch.strided or not value.is_floating_point():
            raise ValueError(
                f"{name} of the parameter of shape {tuple(param.shape)} is {value.dtype} in the "
                f"layout {value.layout}: it must be dense and of a real floating dtype."
            )
        if value.is_meta and not param.is_meta:
            raise ValueError(
                f"{name} of the parameter of shape {tuple(param.shape)} is on meta, without "
                "numbers: load the state dict onto a real device."
            )
        for what, found, expected in (
            ("shape", tuple(value.shape), tuple(shape)),
            ("dtype", value.dtype, dtype),
            ("device", value.device, device),
        ):
            if expected is not None and found != expected:
                raise ValueError(
                    f"{name} has {what} {found}, and {expected} is needed for the parameter of "
                    f"shape {tuple(param.shape)}: weights, param group or state were changed "
                    "since it was made. Delete optimizer.state[param] to learn it anew."
                )
