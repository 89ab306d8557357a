"""What one param group learns, and the tensors that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..forms import Form
from ..learning import Gradient, Weights

LEARNS = "learns"
"""The entry of a param group that names its model, so that a state dict tells what it is of."""


class Vector(NamedTuple):
    """The vector w of one model of the gradient: one tensor, or all tensors of a group.

    Attributes:
        numel: its real numbers.
        dtype: the widest of its tensors, real and at least float32.
    """

    numel: int
    dtype: torch.dtype


class Model(NamedTuple):
    """Ĝ = A x + b in one param group.

    Attributes:
        form: of A.
        rule: by which A and b are learned.
        reading: what A reads of the weights.
    """

    form: Form
    rule: Gradient
    reading: Weights

    @property
    def name(self) -> str:
        """What it is, in words, without its settings: "Diagonal by Gradient of Weights"."""
        form, rule, reading = (type(part).__name__ for part in self)
        return f"{form} by {rule} of {reading}"

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of what the state of a parameter holds."""
        return (*self.form.variables, *self.reading.variables, "b")

    def shapes(self, shape: Sequence[int], vector: Vector) -> tuple[Sequence[int], ...]:
        """Return the shape of each variable for a parameter whose real view has `shape`."""
        others = len(self.reading.variables) + 1
        return (*self.form.shapes(shape, vector.numel), *(shape,) * others)

    def init(self, param: Tensor, dtype: torch.dtype, vector: Vector) -> dict[str, Tensor]:
        """Return the variables of a parameter at t = 0; of a sharded one, they are sharded.

        A form whose variables aren't shaped as the weights starts from all of them, on the first
        process, and every process has all of its variables. Where `param` requires a gradient, it
        flows into variables that start from the weights.
        """
        w = real(param).to(dtype)
        x = w if self.form.elementwise else gathered(w)
        theta = [placed(variable, w) for variable in self.form.init(x, vector.numel)]
        values = (*theta, *self.reading.init(w), torch.zeros_like(w))
        return dict(zip(self.variables, values, strict=True))

    def joined(self, name: str, pieces: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        """Return a variable of several tensors as that of the one vector that they make.

        Args:
            name: of a variable with a row per weight; "b" for whatever is shaped as the weights.
            pieces: one for each tensor.
            sizes: weights of each.
        """
        one_weight = self.shapes((1,), Vector(sum(sizes), pieces[0].dtype))
        row = tuple(one_weight[self.variables.index(name)])[1:]
        return torch.cat([x.reshape(n, *row) for x, n in zip(pieces, sizes, strict=True)])


def own_vector(param: Tensor) -> Vector:
    """Return the vector that a parameter is on its own."""
    dtype = param.dtype.to_real() if param.is_complex() else param.dtype
    return Vector(real_numel(param), torch.promote_types(dtype, torch.float32))


def joint_vector(group: dict[str, Any]) -> Vector | None:
    """Return the vector that the tensors of a group make together; None where each is its own."""
    if group.get("scope") != "group":
        return None
    own = [own_vector(p) for p in group["params"]]
    dtype = torch.float32
    for vector in own:
        dtype = torch.promote_types(dtype, vector.dtype)
    return Vector(sum(vector.numel for vector in own), dtype)


def state_dtype(group: dict[str, Any], vector: Vector) -> torch.dtype:
    """Return the dtype of the variables: as chosen, else that of their vector."""
    chosen: torch.dtype | None = group["state_dtype"]
    return chosen or vector.dtype


def real(x: Tensor) -> Tensor:
    """Return a complex tensor as pairs of reals, sharing memory; a real one as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def real_shape(param: Tensor) -> Sequence[int]:
    """Return the shape of the real view of `param`."""
    return (*param.shape, 2) if param.is_complex() else param.shape


def gathered(x: Tensor) -> Tensor:
    """Return a DTensor as what all processes hold together, which must all call it; else `x`."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def placed(x: Tensor, like: Tensor) -> Tensor:
    """Return `x`, which all processes have, as a DTensor where `like` is one.

    It is sharded as `like` where it has the same shape, else every process has all of it: that of
    the first process, if they differ.
    """
    if type(x) is type(like) or not hasattr(like, "placements"):
        return x
    from torch.distributed.tensor import Replicate, distribute_tensor

    mesh: Any = like.device_mesh  # type: ignore[attr-defined]
    same = x.shape == like.shape
    return distribute_tensor(x, mesh, like.placements if same else [Replicate()] * mesh.ndim)


def real_numel(param: Tensor) -> int:
    """Return how many real numbers `param` holds: two for a complex one."""
    return param.numel() * (2 if param.is_complex() else 1)


def joint_weights(group: dict[str, Any], params: list[Tensor], pieces: list[Tensor]) -> Tensor:
    """Return the group's weights as one vector, with 0 for parameters without a gradient.

    Args:
        group: the param group.
        params: those of its parameters that have a gradient.
        pieces: their weights.
    """
    present = {id(p): piece.reshape(-1) for p, piece in zip(params, pieces, strict=True)}
    return torch.cat(
        [
            present[id(p)] if id(p) in present else pieces[0].new_zeros(real_numel(p))
            for p in group["params"]
        ]
    )
