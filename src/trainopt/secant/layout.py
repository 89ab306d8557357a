"""Where each parameter lies in one flat vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def real(x: Tensor) -> Tensor:
    """Return a complex tensor as pairs of reals, sharing memory; a real one as it is."""
    return torch.view_as_real(x) if x.is_complex() else x


class Layout:
    """The order and shapes of some parameters in a flat vector on the device of the first.

    Attributes:
        params: the parameters.
        shapes: of each as reals; a complex number is two.
        sizes: how many reals each has.
        size: d.
        dtype: the widest of the parameters', at least float32.
        lowest: the dtype of least precision among the parameters'.
        device: the first parameter's.
        exact: whether every parameter has the vector's dtype, on its device.

    Raises:
        TypeError, ValueError: a parameter holds no real or complex numbers, or there is none.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = list(params)
        if not self.params:
            raise ValueError("params has groups without parameters only: give what is trained.")
        for p in self.params:
            if not (p.is_floating_point() or p.is_complex()):
                raise TypeError(
                    f"params has a tensor of {p.dtype}, of shape {tuple(p.shape)}: give real or "
                    "complex floating-point ones."
                )
        self._ids = [*map(id, params)]
        self._given = [p.shape for p in params]
        reals = [real(p.detach()) for p in params]
        self.shapes = [p.shape for p in reals]
        self.sizes = [p.numel() for p in reals]
        self.size = sum(self.sizes)
        self.device = reals[0].device
        self.dtype = torch.float32
        self.lowest = max((p.dtype for p in reals), key=lambda dtype: torch.finfo(dtype).eps)
        for p in reals:
            self.dtype = torch.promote_types(self.dtype, p.dtype)
        self.exact = all((p.dtype, p.device) == (self.dtype, self.device) for p in reals)

    def check(self, params: Sequence[Tensor]) -> None:
        """Raise a RuntimeError unless `params` are those of the layout, in their shapes."""
        for p, shape in zip(params, self._given, strict=False):
            if p.shape != shape:
                raise RuntimeError(
                    f"a parameter of shape {tuple(p.shape)} had the shape {tuple(shape)} at the "
                    "first step: build a new SecantTO for the changed model."
                )
        if [*map(id, params)] != self._ids:
            raise RuntimeError(
                f"the optimizer holds {len(params)} parameters that are not the "
                f"{len(self.params)} of the first step: build a new SecantTO for the changed model."
            )

    def views(self, vectors: Tensor) -> list[Tensor]:
        """Return, for each parameter, its part of `vectors`, (…, d): (…, *shape), shared."""
        parts = vectors.split_with_sizes(self.sizes, dim=-1)
        return [
            part.view((*vectors.shape[:-1], *shape))
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def weights(self) -> Tensor:
        """Return the parameters' values, (d,)."""
        pieces = [real(p.detach()).reshape(-1) for p in self.params]
        if not self.exact:
            pieces = [piece.to(self.device, self.dtype) for piece in pieces]
        return torch.cat(pieces)

    def gradients(self) -> list[Tensor | None]:
        """Return each parameter's gradient as reals on the vector's device, or None.

        Raises:
            TypeError: one is sparse.
        """
        grads: list[Tensor | None] = []
        for p in self.params:
            if p.grad is not None and p.grad.layout != torch.strided:
                raise TypeError(
                    f"the gradient of the parameter of shape {tuple(p.shape)} is sparse "
                    f"({p.grad.layout}): SecantTO needs dense gradients."
                )
            grads.append(None if p.grad is None else real(p.grad).to(self.device))
        return grads

    def write(self, vector: Tensor) -> Tensor:
        """Give the parameters the values of `vector`, (d,), and return what their dtypes hold."""
        for p, value in zip(self.params, self.views(vector), strict=True):
            real(p.detach()).copy_(value)
        return vector if self.exact else self.weights()


def total_norm(tensors: Sequence[Tensor | None]) -> float:
    """Return the norm of all tensors together: O(d), one synchronisation with the host."""
    given = [x for x in tensors if x is not None]
    if not given:
        return 0.0
    norms = torch._foreach_norm(given)
    return float(norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms)))
