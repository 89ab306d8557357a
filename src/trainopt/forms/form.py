"""What a form of A says: how its variables begin, and how it acts. Everything else follows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor


class Form:
    """The matrix A of the model Ĝ = A w + b, by the variables θ that it is made of.

    Subclass it as a frozen dataclass and say `init` and `apply`; a gradient step on θ is the
    transpose of `apply`, which autograd knows. Fields of the dataclass are settings of a param
    group under their own names, so that groups may differ in them and state dicts carry them.
    (`names` lets a form give its variables names; θ is passed by position.)

    Attributes:
        variables: names of θ in the optimizer's state.
        like_weights: every variable has the shape of the weights.
        elementwise: (A x)ᵢ depends on xᵢ alone: every tensor is a vector of its own.
        rowwise: every variable has a row per weight, so that the tensors of a group can be one
            vector w (`scope="group"`).
        dense: A has a column for every weight of the group, also for tensors without a gradient.
        large: θ may be far larger than w: it is refused before anything is allocated when it
            doesn't fit into the memory of the device.
    """

    variables: ClassVar[tuple[str, ...]] = ()
    like_weights: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    rowwise: ClassVar[bool] = False
    dense: ClassVar[bool] = False
    large: ClassVar[bool] = False

    def init(self, w: Tensor, numel: int) -> tuple[Tensor, ...]:
        """Return θ at t = 0, with A = 0.

        Args:
            w: the weights of one parameter, real, any shape, in the dtype of the state.
            numel: numbers of the vector that A reads: those of w, or of all tensors of its group.
        """
        raise NotImplementedError

    def apply(self, x: Tensor, *variables: Any, **names: Any) -> Tensor:
        """Return A x, shaped as x. It must be linear in x and differentiable in θ.

        Args:
            x: what A reads, shaped as the weights; (numel,) for the tensors of a group as one.
            variables: θ.
            names: none; see the class.
        """
        raise NotImplementedError

    def gain(self, x: Tensor, *variables: Any, **names: Any) -> Tensor:
        """Return the largest of what α is multiplied with in a step's effect on the residual: ‖x‖².

        Learning A moves A x by α M e, to first order in α (exactly, where A is linear in θ), with
        M = JJᵀ for the Jacobian J of A x in θ: M = ‖x‖² for a dense A. `gain` bounds the
        eigenvalues of M from above and `least_gain` from below, so that the residual is multiplied
        by factors between 1 − β − α·gain and 1 − β − α·least_gain. 0-dim, or shaped as x where M
        has a block for each part of the residual: the bound of the block that an entry is in.
        """
        return x.square().sum()

    def least_gain(self, x: Tensor, *variables: Any, **names: Any) -> Tensor:
        """Return a lower bound, where it isn't `gain`; see there. 0-dim, or shaped as x."""
        return self.gain(x, *variables)

    def norm(self, x: Tensor, *variables: Any, **names: Any) -> Tensor:
        """Return ‖A‖ in the Frobenius norm, 0-dim; here that of θ, where they are the same.

        Args:
            x: of the shape that A reads.
            variables: θ.
            names: none; see the class.
        """
        return torch.stack([norm(v).square() for v in variables]).sum().sqrt()

    def shapes(self, shape: Sequence[int], numel: int) -> tuple[Sequence[int], ...]:
        """Return the shape of each variable for weights of `shape`, as `init` makes them."""
        if self.like_weights:
            return (shape,) * len(self.variables)
        # torch.compile warns of a cache that it looks through.
        found = _shapes if torch.compiler.is_compiling() else _kept_shapes
        return found(self, tuple(shape), numel)


def _shapes(form: Form, shape: tuple[int, ...], numel: int) -> tuple[Sequence[int], ...]:
    return tuple(v.shape for v in form.init(torch.empty(shape, device="meta"), numel))


_kept_shapes = functools.lru_cache(maxsize=4096)(_shapes)


def norm(x: Tensor) -> Tensor:
    """Return ‖x‖, summed in float64 without a wide copy."""
    found: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return found


def as_matrix(x: Tensor) -> Tensor:
    """Return x as a matrix of its first dimension by all others, as a view where possible."""
    return x.reshape(x.shape[0] if x.ndim else 1, -1) if x.numel() else x.reshape(0, 0)
