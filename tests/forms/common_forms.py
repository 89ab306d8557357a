"""Every form, and what it comes to when it is written out as a dense matrix."""

from __future__ import annotations

import torch
from banded import Banded

from trainopt import (
    Blocks,
    Dense,
    Diagonal,
    Gradient,
    Kronecker,
    Left,
    LowRank,
    RankOne,
    Zero,
    rules,
)

FORMS = [
    Dense(),
    Diagonal(),
    RankOne("normal"),
    Zero(),
    LowRank(2),
    Kronecker(),
    Left(),
    Blocks(5),
    Banded(2),
]
LINEAR = [form for form in FORMS if type(form) not in (RankOne, LowRank, Kronecker)]
SHAPES = [(4, 3), (5,), (), (2, 3, 2)]


def name(part):
    return type(part).__name__.lower()


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_variables(form, w, seed=0):
    """θ as it is after some steps on random weights and gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theta = form.init(w, w.numel())
    zero = torch.zeros_like(w)
    for t in range(4):
        x, g = (randn(*w.shape, seed=100 + 10 * seed + 2 * t + i) for i in (0, 1))
        *theta, _ = rules.learn(form, Gradient(), x, g, *theta, zero, alpha=0.2, beta=0.0).variables
    return theta


def dense_matrix(form, variables, shape):
    """A, column by column: its action on the unit vectors."""
    size = torch.Size(shape).numel()
    columns = [form.apply(e.reshape(shape), *variables) for e in torch.eye(size).double()]
    return torch.stack([column.reshape(-1) for column in columns], 1)
