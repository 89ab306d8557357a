"""What the optimizer tests share."""

from __future__ import annotations

import copy

import torch

from trainopt import DiagonalTO, FullTO, RankOneTO

VARIANTS = [FullTO, DiagonalTO, RankOneTO]
SETTINGS = [
    (FullTO, {"scope": "group"}),
    (FullTO, {"scope": "tensor"}),
    (DiagonalTO, {}),
    (RankOneTO, {"scope": "tensor"}),
    (RankOneTO, {"scope": "group"}),
]
IDS = ["full-group", "full-tensor", "diagonal", "rankone-tensor", "rankone-group"]


def make_params(dtype=torch.float64, seed=0, shapes=((4, 3), (4,), ())):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in shapes
    ]


def fill_grads(params, t, scale=1.0):
    """Gradients of a noisy quadratic, the same for the same t in any dtype or layout."""
    generator = torch.Generator().manual_seed(1000 + t)
    for p in params:
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            p.grad = ((p.real.double() - 1 + 0.3 * noise) * scale).to(p.dtype)


def train(optimizer, params, steps, start=0):
    for t in range(start, start + steps):
        fill_grads(params, t)
        optimizer.step()
    return [p.detach().clone() for p in params]


def clone_params(params):
    return [torch.nn.Parameter(p.detach().clone()) for p in params]


def assert_same(xs, ys, **tolerance):
    tolerance = tolerance or {"rtol": 0, "atol": 0}
    for x, y in zip(xs, ys, strict=True):
        torch.testing.assert_close(x, y, **tolerance)


def state_of(optimizer):
    """A copy of everything a state dict holds."""
    return copy.deepcopy(optimizer.state_dict())
