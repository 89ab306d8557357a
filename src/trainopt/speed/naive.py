"""The rules as one would first write them: what the work on speed is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ALPHA, BETA, LR = 1e-9, 0.5, 1e-6


def diagonal(params: list[Tensor]) -> Callable[[], None]:
    """Diagonal-TO, tensor by tensor, a new tensor for every operation."""
    state = [[torch.zeros_like(p) for _ in range(2)] for p in params]

    @torch.no_grad()
    def step() -> None:
        for p, s in zip(params, state, strict=True):
            a, b = s
            assert p.grad is not None
            e = p.grad - a * p - b
            s[:] = a + ALPHA * e * p, b + BETA * e
            p.sub_(LR * (s[0] * p + s[1]))

    return step


def rank_one(params: list[Tensor]) -> Callable[[], None]:
    """RankOne-TO, likewise."""
    state = [
        [torch.zeros_like(p), torch.full_like(p, p.numel() ** -0.5), torch.zeros_like(p)]
        for p in params
    ]

    @torch.no_grad()
    def step() -> None:
        for p, held in zip(params, state, strict=True):
            a, c, b = held
            assert p.grad is not None
            s = (c * p).sum()
            e = p.grad - s * a - b
            held[:] = a + ALPHA * s * e, c + ALPHA * (a * e).sum() * p, b + BETA * e
            p.sub_(LR * (held[0] * (held[1] * p).sum() + held[2]))

    return step


def full(params: list[Tensor]) -> Callable[[], None]:
    """Full-TO of one vector: two products with A, and e wᵀ as a matrix of its own."""
    (w,) = params
    A, b = w.new_zeros(w.numel(), w.numel()), torch.zeros_like(w)

    @torch.no_grad()
    def step() -> None:
        assert w.grad is not None
        e = w.grad - A @ w - b
        A.add_(ALPHA * torch.outer(e, w))
        b.add_(BETA * e)
        w.sub_(LR * (A @ w + b))

    return step
