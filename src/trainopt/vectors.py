"""Arithmetic on the vectors of a param group, which live as lists of tensors.

`Vectors` behaves in a formula as a tensor does (`g - a * w - b`), so the rules are written once and
run on plain tensors, tensor by tensor, or through torch's `_foreach` kernels. A list is either many
vectors (one per tensor) or, when `joint`, the pieces of one vector.

The functions below are the operations that plain operators can't say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Scalar = float | Tensor


class Vectors:
    """A list of tensors under elementwise arithmetic.

    Args:
        tensors: the pieces.
        foreach: use the `torch._foreach_*` kernels instead of a Python loop. Same numbers.
        inplace: let `add_scaled` and `add_outer` write into these tensors; without it they
            make new ones, as autograd needs.
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
        return Vectors([function(x) for x in self.tensors], foreach=self.foreach, joint=self.joint)

    def _elementwise(
        self, op: Callable[..., Tensor], foreach_op: Callable[..., Any], other: Vectors | Scalar
    ) -> Vectors:
        foreach = self.foreach
        if isinstance(other, Vectors):
            foreach = foreach or other.foreach
            if foreach:
                result = foreach_op(self.tensors, other.tensors)
            else:
                result = [op(x, y) for x, y in zip(self.tensors, other.tensors, strict=True)]
        elif foreach:
            result = foreach_op(self.tensors, other)
        else:
            result = [op(x, other) for x in self.tensors]
        return Vectors(result, foreach=foreach, joint=self.joint)


Vector = TypeVar("Vector", Tensor, Vectors)


def dot(x: Any, y: Any) -> Any:
    """Return xᵀy: a 0-dim tensor, or one per tensor for `Vectors` that are not joint."""
    if isinstance(x, Tensor):
        return torch.dot(x.reshape(-1), y.reshape(-1))
    pieces = [dot(p, q) for p, q in zip(x.tensors, y.tensors, strict=True)]
    return torch.stack(pieces).sum() if x.joint else Vectors(pieces)


def matvec(A: Any, x: Any) -> Any:
    """Return A x. With `Vectors`, A holds one block of rows per tensor; a plain x is shared."""
    if isinstance(A, Tensor):
        return A @ x
    products = [
        torch.cat([torch.mv(rows.to(v.dtype), v) for rows in _widened(block, v)])
        if block.dtype != v.dtype
        else torch.mv(block, v)
        for block, v in _blocks(A, x)
    ]
    return Vectors(products, foreach=A.foreach)


def add_scaled(x: Any, scale: Any, y: Any) -> Any:
    """Return x + scale · y, written into x where x allows it. `scale` as `Vectors` is one each."""
    if isinstance(x, Tensor):
        return x + scale * y
    if not x.inplace:
        return x + y * scale
    if not isinstance(scale, int | float):
        return add_scaled(x, 1, y * scale)
    if x.foreach:
        torch._foreach_add_(x.tensors, y.tensors, alpha=scale)
    else:
        for p, q in zip(x.tensors, y.tensors, strict=True):
            p.add_(q, alpha=scale)
    return x


def plus(x: Any, scale: Any, y: Any) -> Any:
    """Return x + scale · y, always as a new one."""
    if isinstance(x, Tensor) or isinstance(scale, Tensor):
        return x + y * scale
    added: Sequence[Tensor]
    if x.foreach:
        added = torch._foreach_add(x.tensors, y.tensors, alpha=scale)
    else:
        added = [torch.add(p, q, alpha=scale) for p, q in zip(x.tensors, y.tensors, strict=True)]
    return Vectors(added, foreach=x.foreach, joint=x.joint)


def add_product(x: Any, scale: Any, y: Any, z: Any) -> Any:
    """Return x + scale · y∘z, always as a new one."""
    if isinstance(x, Tensor) or isinstance(scale, Tensor):
        return x + y * z * scale
    lists = x.tensors, y.tensors, z.tensors
    added: Sequence[Tensor]
    if x.foreach:
        added = torch._foreach_addcmul(*lists, value=scale)
    else:
        added = [torch.addcmul(*each, value=scale) for each in zip(*lists, strict=True)]
    return Vectors(added, foreach=x.foreach, joint=x.joint)


def add_outer(A: Any, scale: Scalar, u: Any, v: Any) -> Any:
    """Return A + scale · u vᵀ, written into A where A allows it.

    In place, `addr_` needs no temporary of the size of A.
    """
    rows = u * scale
    if isinstance(A, Tensor):
        return torch.addr(A, rows, v)
    blocks = []
    for (block, x), row in zip(_blocks(A, v), rows.tensors, strict=True):
        if block.dtype == x.dtype:
            blocks.append(block.addr_(row, x) if A.inplace else torch.addr(block, row, x))
            continue
        kept = block if A.inplace else block.clone()
        pieces = _widened(kept, x)
        for piece, part in zip(pieces, torch.split(row, [len(p) for p in pieces]), strict=True):
            piece.add_(torch.outer(part, x))
        blocks.append(kept)
    return A if A.inplace else Vectors(blocks, foreach=A.foreach)


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
    return x.map(lambda piece: piece.reshape(-1))


def _blocks(A: Vectors, x: Tensor | Vectors) -> list[tuple[Tensor, Tensor]]:
    pieces = [x] * len(A.tensors) if isinstance(x, Tensor) else x.tensors
    return list(zip(A.tensors, pieces, strict=True))


def _widened(A: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Cut an A that is narrower than x into runs of rows, so that no wide copy of all is made."""
    return torch.split(A, max(1, _RUN // max(x.numel(), 1)))


_RUN = 1 << 20
