"""What the tests of SecantTO share: small problems, and runs on them."""

from __future__ import annotations

import torch

from trainopt import ChunkSampler, SecantTO


class Problem:
    """Mean loss over rows + l2/2 ‖w‖², "ridge" or "logistic", d weights, n rows."""

    def __init__(self, kind="ridge", n=90, d=6, l2=1e-2, seed=0):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        self.x = x * torch.logspace(0, -1, d, dtype=torch.float64)
        noise = torch.randn(n, generator=generator, dtype=torch.float64)
        y = self.x @ torch.ones(d, dtype=torch.float64) + 0.5 * noise
        self.kind, self.n, self.d, self.l2 = kind, n, d, l2
        self.y = y if kind == "ridge" else (y > 0).double()

    def data_loss(self, w, rows):
        rows = torch.as_tensor(rows)
        z, y = self.x[rows].to(w.dtype) @ w, self.y[rows].to(w.dtype)
        if self.kind == "ridge":
            return 0.5 * (z - y).square().mean()
        return torch.nn.functional.binary_cross_entropy_with_logits(z, y)

    def loss(self, w, rows=None):
        rows = range(self.n) if rows is None else rows
        return self.data_loss(w, rows) + self.l2 / 2 * w.square().sum()

    def gradient(self, w, rows=None):
        w = w.detach().clone().requires_grad_()
        (g,) = torch.autograd.grad(self.loss(w, rows), w)
        return g

    def optimum(self):
        """F*, by Newton's method."""
        w = torch.zeros(self.d, dtype=torch.float64)
        for _ in range(30):
            hessian = torch.autograd.functional.hessian(self.loss, w)
            w = w - torch.linalg.solve(hessian, self.gradient(w))
        return self.loss(w).item()


def new(problem, batch=5, chunks=4, dtype=torch.float64, sampler=None, watch=True, **settings):
    """A parameter, a sampler and an optimizer on a problem; `watch`: of the sampler's passes."""
    w = torch.nn.Parameter(torch.zeros(problem.d, dtype=dtype))
    sampler = sampler or ChunkSampler(problem.n, batch, chunks)
    plan = sampler if watch else sampler.plan
    return w, sampler, SecantTO([w], plan, **{"lr": 0.3, **settings})


def take(problem, w, optimizer, rows, with_loss=False):
    """A step on some rows."""
    loss = problem.loss(w, rows)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step(loss=loss.detach() if with_loss else None)


def train(problem, w, batches, optimizer, passes, **settings):
    """Passes over the batches of a loader or sampler; F after each."""
    history = []
    for _ in range(passes):
        for rows in batches:
            take(problem, w, optimizer, rows, **settings)
        history.append(problem.loss(w.detach().double()).item())
    return history
