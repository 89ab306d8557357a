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


def check_memory(params: Sequence[Tensor]) -> None:
    """Raise a ValueError when weights or gradients have numbers and no memory.

    Whoever frees a storage by `resize_(0)` and steps before it is back would read address 0.
    """
    for what in ("weights", "gradient"):
        gradients = [p.grad for p in params if p.grad is not None]
        tensors = params if what == "weights" else gradients
        # A DTensor and a tensor on "meta" have no address of their own.
        plain = [
            x
            for x in tensors
            if type(x) in (Tensor, Parameter) and x.device.type in ("cpu", "cuda")
        ]
        if 0 not in [x.data_ptr() for x in plain]:
            continue
        for x in plain:
            if x.numel() and not x.data_ptr():
                raise ValueError(
                    f"the {what} of the parameter of shape {tuple(x.shape)} have no memory, their "
                    "storage was freed: restore it before step()."
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
