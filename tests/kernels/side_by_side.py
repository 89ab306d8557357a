"""Two optimizers side by side: the kernel, and the rule tensor by tensor."""

import torch

from trainopt import DiagonalTO, FullTO, RankOneTO

# Above the size from which threads share a vector.
WIDE = 40_000
CASES = [
    (DiagonalTO, {}),
    (RankOneTO, {"scope": "tensor"}),
    (RankOneTO, {"scope": "group"}),
    (FullTO, {"scope": "group"}),
    (FullTO, {"scope": "tensor"}),
]
SHAPES = {
    DiagonalTO: [(300, 70), (7,), (), (5, 0), (5, 6, 7), (WIDE,)],
    RankOneTO: [(300, 70), (7,), (), (5, 0), (5, 6, 7), (WIDE,)],
    FullTO: [(3, 4), (7,), (), (5, 0), (20, 9)],
}
ALPHA = {DiagonalTO: 1e-2, RankOneTO: 1e-6, FullTO: 1e-3}


def train_both(
    cls, dtype, shapes, steps=20, change=lambda t, params: None, generator=None, **settings
):
    """Train with the kernel and without; return (params, optimizer) of both."""
    results = []
    for fused in (True, False):
        generator = (generator or torch.Generator()).manual_seed(0)
        params = [
            torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
            for shape in shapes
        ]
        rates = {"lr": 0.05, "alpha": ALPHA[cls], "beta": 0.3}
        chosen = {**rates, "weight_decay": 0.01, "keep_estimate": True, **settings}
        optimizer = cls(params, fused=fused, **chosen)
        for t in range(steps):
            for p in params:
                noise = torch.randn(p.shape, generator=generator)
                p.grad = (p.detach().float() + noise).to(dtype)
            change(t, params)
            optimizer.step()
        results.append((params, optimizer))
    return results


def assert_near(one, two, dtype):
    """The same weights, state, estimates and residual norms, to rounding of `dtype`."""
    scale = {torch.float64: 1e-11, torch.float32: 2e-5}.get(dtype, 2e-2)
    (params, kernel), (others, plain) = one, two

    def near(x, y):
        x, y = x.double(), y.double()
        size = max(y.abs().max().item(), 1e-3) if y.numel() else 1.0
        torch.testing.assert_close(x, y, rtol=0, atol=scale * size)

    for p, q in zip(params, others, strict=True):
        near(p.detach(), q.detach())
        for name in kernel.variables:
            if p in plain.state or q in plain.state:
                near(kernel.state[p][name], plain.state[q][name])
        if p.grad is not None:
            near(kernel.estimate(p), plain.estimate(q))
    near(kernel.residual_norm(), plain.residual_norm())
