"""What is measured: parameters, a mean loss, and some mini-batches of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Batch: TypeAlias = Any
"""Tensors whose first axis is the rows: one, or a tuple or list of them."""

PRODUCT = 2  # mini-batch gradients that a product with the Hessian costs


@dataclass
class Objective:
    """A loss of real parameters on mini-batches, and a count of what was asked of it.

    Attributes:
        params: what is trained; real, at least one.
        loss: a batch's mean loss, a scalar that autograd can differentiate.
        batches: mini-batches, as the loader gives them; at least one.
        spent: mini-batch gradients so far; a product with the Hessian counts `PRODUCT`.
    """

    params: Sequence[Tensor]
    loss: Callable[[Batch], Tensor]
    batches: Sequence[Batch]
    spent: float = 0.0

    @property
    def weights(self) -> int:
        """The number of weights, d."""
        return sum(p.numel() for p in self.params)

    def gradient(self, batch: Batch) -> Tensor:
        """The gradient on a batch, flat: (d,)."""
        self.spent += rows_of(batch) / rows_of(self.batches[0])
        return self._flat(self._gradients(batch, create_graph=False))

    def hessian(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """The product with the Hessian on a batch: (d,) to (d,), by differentiating twice.

        Raises:
            RuntimeError: an operation of the model can't be differentiated twice.
        """
        # The fused kernels of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            gradients = self._gradients(batch, create_graph=True)
        shares = rows_of(batch) / rows_of(self.batches[0])

        def product(v: Tensor) -> Tensor:
            self.spent += PRODUCT * shares
            pairs = zip(gradients, self.pieces(v), strict=True)
            linked = [(g, x) for g, x in pairs if g.requires_grad]
            if not linked:  # the loss is linear in the weights
                return torch.zeros_like(v)
            found = torch.autograd.grad(
                [g for g, _ in linked],
                self.params,
                [x for _, x in linked],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            return self._flat(found)

        return product

    @torch.no_grad()
    def move(self, direction: Tensor) -> None:
        """Add to the weights: (d,)."""
        for p, x in zip(self.params, self.pieces(direction), strict=True):
            p.add_(x)

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """A vector (d,) in the shapes of the parameters."""
        sizes = [p.numel() for p in self.params]
        parts: Sequence[Tensor] = torch.split_with_sizes(vector, sizes)
        return [x.view_as(p) for x, p in zip(parts, self.params, strict=True)]

    def _gradients(self, batch: Batch, create_graph: bool) -> Sequence[Tensor]:
        with torch.enable_grad():
            return torch.autograd.grad(
                self.loss(batch),
                self.params,
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([x.detach().reshape(-1) for x in tensors])


def tensors_of(batch: Batch) -> list[Tensor]:
    """The tensors of a batch."""
    return [batch] if isinstance(batch, Tensor) else [x for x in batch if isinstance(x, Tensor)]


def rows_of(batch: Batch) -> int:
    """The number of rows of a batch."""
    return len(tensors_of(batch)[0])


def part(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    if isinstance(batch, Tensor):
        return batch[rows]
    return tuple(x[rows] if isinstance(x, Tensor) else x for x in batch)


def equal(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same numbers."""
    pairs = list(zip(tensors_of(one), tensors_of(other), strict=False))
    return len(tensors_of(one)) == len(tensors_of(other)) and all(
        x.shape == y.shape and torch.equal(x, y) for x, y in pairs
    )
