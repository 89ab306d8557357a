"""A physics-informed network: viscous Burgers, by SecantTO or by ADAM and then L-BFGS.

    python examples/pinn.py
    python examples/pinn.py --optimizer lbfgs

The equation is u_t + u u_x = ν u_xx on −1 < x < 1, 0 < t < 1, with u = −sin(πx) at first and 0 at
both ends. Loss *and* error are printed: a low loss is no proof of a right solution. A row of
`points` holds a point inside, one at the start and a time for both ends, so that chunks are alike.
"""

from __future__ import annotations

import argparse
import math
import sys

import torch
from torch import Tensor, nn

from trainopt import ChunkSampler, SecantTO
from trainopt.scientific.problem import sample
from trainopt.scientific.problems.burgers import VISCOSITY, solution

CHUNKS, FIRST = 4, 40


def losses(model: nn.Module, points: Tensor) -> Tensor:
    """The loss of each row: x, t, x at the start, t at both ends."""
    x, t = (points[:, i].clone().requires_grad_() for i in (0, 1))
    u = model(torch.stack([x, t], 1))[:, 0]
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    start, time = points[:, 2], points[:, 3]
    one = torch.ones_like(time)
    first = model(torch.stack([start, 0 * one], 1))[:, 0] + torch.sin(math.pi * start)
    left, right = (model(torch.stack([end * one, time], 1))[:, 0] for end in (-1, 1))
    inside = u_t + u * u_x - VISCOSITY * u_xx
    return inside.square() + first.square() + left.square() + right.square()


def by_secants(model: nn.Module, points: Tensor, passes: int) -> None:
    """SecantTO: each chunk is one batch, the same rows every time; it is given the losses."""
    params = list(model.parameters())
    sampler = ChunkSampler(len(points), batch_size=len(points) // CHUNKS, chunks=CHUNKS)
    base = torch.optim.Adam(params, lr=3e-3)
    first = min(FIRST, passes // 2)
    optimizer = SecantTO(params, sampler, base=base, first=first, pairs=48)
    for _ in range(passes):
        for rows in sampler:
            optimizer.zero_grad()
            loss = losses(model, points[rows]).mean()
            loss.backward()
            optimizer.step(loss=loss.detach())


def by_lbfgs(model: nn.Module, points: Tensor, passes: int) -> None:
    """The custom: ADAM first, then L-BFGS; an evaluation of all rows is a pass."""
    first = min(FIRST, passes // 2)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    lbfgs = torch.optim.LBFGS(
        model.parameters(),
        max_iter=passes,
        max_eval=passes - first,
        history_size=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        lbfgs.zero_grad()
        loss = losses(model, points).mean()
        loss.backward()
        return loss.item()

    for _ in range(first):
        closure()
        adam.step()
    lbfgs.step(closure)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, and return the loss on all points and the relative L2 error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=["secant", "lbfgs"], default="secant")
    parser.add_argument("--passes", type=int, default=1000)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    torch.manual_seed(options.seed)
    points = sample([-1, 0, -1, 0], [1, 1, 1, 1], options.points)
    layers = [nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 20)]
    model = nn.Sequential(*layers, nn.Tanh(), nn.Linear(20, 1)).double()
    train = by_secants if options.optimizer == "secant" else by_lbfgs
    train(model, points, options.passes)

    x, t = (
        torch.linspace(low, 1, count, dtype=torch.float64) for low, count in ((-1, 101), (0, 26))
    )
    grid = torch.cartesian_prod(x, t)
    known = solution(grid)
    with torch.no_grad():
        error = (model(grid)[:, 0] - known).norm() / known.norm()
    return {"loss": losses(model, points).mean().item(), "error": float(error)}


if __name__ == "__main__":
    found = main(sys.argv[1:])
    print(f"loss {found['loss']:.2e}, relative L2 error {found['error']:.2e}")
