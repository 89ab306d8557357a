"""Arithmetic on the vectors of a param group, which live as lists of tensors.

`Vectors` behaves in a formula as a tensor does (`g - a * w - b`), so a closed form is written once
and runs on plain tensors, tensor by tensor, or through torch's `_foreach` kernels. A list is either
many vectors (one per tensor) or, when `joint`, the pieces of one vector.

The functions have torch's names, for what plain operators can't say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor


class Vectors:
    """A list of tensors under elementwise arithmetic.

    Args:
        tensors: the pieces.
        foreach: use the `torch._foreach_*` kernels instead of a Python loop. Same numbers.
        inplace: let `add_` and `addr_` write into these tensors; without it they make new ones, as
            autograd needs.
        joint: the pieces are one vector: `dot` sums over all of them.
    """

    __slots__ = ("foreach", "inplace", "joint", "tensors")

    def __init__(
        self,
        tensors: Sequence[Tensor],
        *,
        foreach: bool = False,
        inplace: bool = False,
        joint: bool = False,
    ) -> None:
        self.tensors = list(tensors)
        self.foreach = foreach
        self.inplace = inplace
        self.joint = joint

    def __add__(self, other: Vectors | Scalar) -> Vectors:
        return self._elementwise(torch.add, torch._foreach_add, other)

    def __sub__(self, other: Vectors | Scalar) -> Vectors:
        return self._elementwise(torch.sub, torch._foreach_sub, other)

    def __mul__(self, other: Vectors | Scalar) -> Vectors:
        return self._elementwise(torch.mul, torch._foreach_mul, other)

    __rmul__ = __mul__

    def map(self, function: Callable[[Tensor], Tensor]) -> Vectors:
        """Return the vectors with `function` applied to every piece."""
        return self._like([function(x) for x in self.tensors])

    def _like(self, tensors: Sequence[Tensor]) -> Vectors:
        return Vectors(tensors, foreach=self.foreach, joint=self.joint)

    def _elementwise(
        self,
        op: Callable[..., Tensor],
        foreach_op: Callable[..., Sequence[Tensor]],
        other: Vectors | Scalar,
    ) -> Vectors:
        if isinstance(other, Vectors):
            if self.foreach or other.foreach:
                result = foreach_op(self.tensors, other.tensors)
            else:
                result = [op(x, y) for x, y in zip(self.tensors, other.tensors, strict=True)]
            return Vectors(result, foreach=self.foreach or other.foreach, joint=self.joint)
        if self.foreach:
            return self._like(foreach_op(self.tensors, other))
        return self._like([op(x, other) for x in self.tensors])


Scalar: TypeAlias = float | Tensor
Vector = TypeVar("Vector", Tensor, Vectors)
Numbers: TypeAlias = Scalar | Vectors
"""One number for all vectors, or, as `Vectors` of 0-dim tensors, one for each."""


def dot(x: Vector, y: Vector) -> Vector:
    """Return xᵀy: a 0-dim tensor, or one per tensor for `Vectors` that are not joint."""
    if isinstance(x, Tensor):
        if type(x) in (Tensor, torch.nn.Parameter):
            return torch.dot(x.reshape(-1), y.reshape(-1))
        return (x * y).sum()  # a DTensor with uneven shards has no flat view
    pieces = [dot(p, q) for p, q in zip(x.tensors, y.tensors, strict=True)]
    # A joint product is one number for all pieces: it goes on as a plain tensor.
    return cast(Vectors, torch.stack(pieces).sum()) if x.joint else Vectors(pieces)


def mv(A: Vector, x: Vector | Tensor) -> Vector:
    """Return A x. With `Vectors`, A holds one block of rows per tensor; a plain x is shared."""
    if isinstance(A, Tensor):
        assert isinstance(x, Tensor)
        return A @ x
    products = [
        torch.mv(block, v)
        if block.dtype == v.dtype
        else torch.cat([torch.mv(rows.to(v.dtype), v) for rows in _runs(block)])
        for block, v in _blocks(A, x)
    ]
    return Vectors(products, foreach=A.foreach)


def add(x: Vector, y: Vector, alpha: Scalar) -> Vector:
    """Return x + alpha · y, as a new one."""
    if isinstance(x, Tensor) or isinstance(alpha, Tensor):
        return x + y * alpha
    if x.foreach:
        return x._like(torch._foreach_add(x.tensors, y.tensors, alpha=alpha))
    return x._like(
        [torch.add(p, q, alpha=alpha) for p, q in zip(x.tensors, y.tensors, strict=True)]
    )


def add_(x: Vector, y: Vector, alpha: Numbers) -> Vector:
    """Return x + alpha · y, written into x where x allows it."""
    if isinstance(x, Tensor):
        assert isinstance(y, Tensor)
        one = cast(Scalar, alpha)  # a float in torch's own way, for SGD to the last bit
        return x + y * one if isinstance(one, Tensor) else torch.add(x, y, alpha=one)
    if not x.inplace:
        return x + y * alpha
    if not isinstance(alpha, int | float):
        return add_(x, y * alpha, 1)
    if x.foreach:
        torch._foreach_add_(x.tensors, y.tensors, alpha=alpha)
    else:
        for p, q in zip(x.tensors, y.tensors, strict=True):
            p.add_(q, alpha=alpha)
    return x


def addcmul(x: Vector, y: Vector, z: Vector, value: Scalar) -> Vector:
    """Return x + value · y∘z, as a new one."""
    if isinstance(x, Tensor) or isinstance(value, Tensor):
        return x + y * z * value
    lists = x.tensors, y.tensors, z.tensors
    if x.foreach:
        return x._like(torch._foreach_addcmul(*lists, value=value))
    return x._like([torch.addcmul(*each, value=value) for each in zip(*lists, strict=True)])


def addr_(A: Vector, u: Vector, v: Vector | Tensor) -> Vector:
    """Return A + u vᵀ, written into A where A allows it, which needs no second A."""
    if isinstance(A, Tensor):
        assert isinstance(u, Tensor)
        assert isinstance(v, Tensor)
        return torch.addr(A, u, v)
    new = [
        _addr(block, row, x, A.inplace)
        for (block, x), row in zip(_blocks(A, v), u.tensors, strict=True)
    ]
    return A if A.inplace else Vectors(new, foreach=A.foreach)


def _addr(A: Tensor, u: Tensor, v: Tensor, inplace: bool) -> Tensor:
    if A.dtype == v.dtype:
        return A.addr_(u, v) if inplace else torch.addr(A, u, v)
    new = A if inplace else A.clone()
    rows = _runs(new)
    for run, part in zip(rows, torch.split(u, [len(run) for run in rows]), strict=True):
        run.add_(torch.outer(part, v))
    return new


def slices(lists: list[list[Tensor]], size: int) -> Iterator[list[list[Tensor]]]:
    """Cut lists of contiguous tensors, of like sizes, into runs of about `size` numbers.

    Yields:
        Lists parallel to `lists`, of small tensors as they are or of flat parts of a large one.
    """

    def cut(x: Tensor) -> Sequence[Tensor]:
        return torch.split(x.view(-1), size) if x.numel() > size else (x,)

    parts = [[part for x in tensors for part in cut(x)] for tensors in lists]
    start, held = 0, 0
    for stop, part in enumerate(parts[0], 1):
        held += part.numel()
        if held >= size or stop == len(parts[0]):
            yield [tensors[start:stop] for tensors in parts]
            start, held = stop, 0


def flatten(x: Vectors) -> Vectors:
    """Return every piece in one dimension, as a view where its layout allows one."""
    return Vectors([piece.reshape(-1) for piece in x.tensors], foreach=x.foreach, inplace=x.inplace)


def _blocks(A: Vectors, x: Tensor | Vectors) -> list[tuple[Tensor, Tensor]]:
    pieces = [x] * len(A.tensors) if isinstance(x, Tensor) else x.tensors
    return list(zip(A.tensors, pieces, strict=True))


def _runs(A: Tensor) -> Sequence[Tensor]:
    """Cut A into runs of rows of about a million numbers, so that no wide copy of all is made."""
    return torch.split(A, max(1, (1 << 20) // max(A.shape[1], 1)))
