"""The step of a whole param group as one compiled graph: what `fused=True` runs.

`torch.compile` turns the same rule into one or two passes over memory. The rates enter as tensors,
so that a changing rate does not compile again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..rules import Learned, Rule, descend
from ..vectors import Vectors


@functools.cache
def compiled(rule: Rule, joint: bool) -> Callable[..., Any]:
    """Return the compiled step of `rule`, called as step(w, g, state, lr, alpha, beta, decay)."""

    def step(
        w: list[Tensor],
        g: list[Tensor],
        state: list[list[Tensor]],
        lr: Tensor,
        alpha: Tensor,
        beta: Tensor,
        weight_decay: float,
    ) -> tuple[list[Tensor], list[Tensor]]:
        vectors = functools.partial(Vectors, inplace=True, joint=joint)
        weights = vectors(w)
        learned = rule(weights, vectors(g), *map(vectors, state), alpha=alpha, beta=beta)
        descend(weights, learned.estimate, lr=lr, weight_decay=weight_decay)
        return learned.estimate.tensors, learned.residual.tensors

    return torch.compile(step, dynamic=False)


def fused_step(
    rule: Rule,
    w: Vectors,
    g: Vectors,
    state: list[Vectors],
    rates: tuple[Any, Any, Any],
    weight_decay: float,
) -> Learned:
    """Take one step in place on `w` and `state`; return them with the estimate and the residual.

    Raises:
        torch._dynamo.exc.BackendCompilerFailed: no C++ compiler (CPU) or Triton (CUDA) was found.
    """
    tensors = [torch.as_tensor(rate, dtype=w.tensors[0].dtype) for rate in rates]
    estimate, residual = compiled(rule, w.joint)(
        _lines(w), _lines(g), [_lines(v) for v in state], *tensors, weight_decay
    )
    shaped = (
        Vectors([x.view(p.shape) for x, p in zip(pieces, w.tensors, strict=True)])
        for pieces in (estimate, residual)
    )
    return Learned(tuple(state), *shaped)


def _lines(vectors: Vectors) -> list[Tensor]:
    """Return 0-dim tensors as views of one dimension: torch.compile would take them for numbers."""
    return [x.view(1) if x.dim() == 0 else x for x in vectors.tensors]
