"""What a tensor must be before a step reads or writes it: one rule for kernels and plain torch.

Users resize, transpose, move, clip and replace weights between two steps, edit `param_groups` and
`state`, and load state dicts of other models. Whatever doesn't fit is one sentence, before anything
is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


def check_memory(params: Sequence[Tensor], state: Sequence[Sequence[Tensor]] = ()) -> None:
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
        # A DTensor and a tensor on "meta" have no address of their own.
        plain = [
            (p, x)
            for p, x in zip(params, tensors, strict=True)
            if x is not None and type(x) in (Tensor, Parameter) and x.device.type in ("cpu", "cuda")
        ]
        if 0 in [x.data_ptr() for _, x in plain]:
            for p, x in plain:
                if x.numel() and not x.data_ptr():
                    raise ValueError(
                        f"the {what} of the parameter of shape {tuple(p.shape)} has no memory, its "
                        "storage was freed: restore it before step()."
                    )
        if written and not all(x.is_contiguous() for _, x in plain):
            for p, x in plain:
                if any(n > 1 and not step for n, step in zip(x.shape, x.stride(), strict=True)):
                    raise ValueError(
                        f"the {what} of the parameter of shape {tuple(p.shape)} has an expanded "
                        "tensor, in which many numbers share one place: clone() it."
                    )


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
    if set(held) != set(shapes):
        raise ValueError(
            f"the state of the parameter of shape {tuple(param.shape)} holds {sorted(held)}, "
            f"{optimizer} holds {sorted(shapes)}: load it into the variant that saved it."
        )
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


def gradients_fit(params: list[Tensor], grads: list[Tensor]) -> bool:
    """Return whether `check_gradient` would pass for all, quickly."""
    return (
        [g.shape for g in grads] == [p.shape for p in params]
        and [g.device for g in grads] == [p.device for p in params]
        and {g.layout for g in grads} <= {torch.strided}
    )


def variables_fit(
    params: list[Tensor],
    state: Sequence[Sequence[Any]],
    shapes: Sequence[Sequence[Sequence[int]]],
    dtype: torch.dtype,
) -> bool:
    """Return whether these variables would pass `check_variables`, quickly.

    Args:
        params: real parameters.
        state: a list per variable.
        shapes: of each of them.
        dtype: of all.
    """
    devices = [p.device for p in params]
    return all(
        set(map(type, values)) == {Tensor}
        and {x.dtype for x in values} == {dtype}
        and [x.shape for x in values] == shapes_of
        and [x.device for x in values] == devices
        for values, shapes_of in zip(state, shapes, strict=True)
    )
