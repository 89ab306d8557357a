"""What the examples of SecantTO share: passes over rows in memory, and a table of what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from trainopt import ChunkSampler, SecantTO

Loss = Callable[[Tensor, Tensor], Tensor]


class Row(NamedTuple):
    """A method's line in a table: passes over the data, seconds, F, and a score on other rows."""

    method: str
    passes: int
    seconds: float
    value: float
    score: float


def secant(
    model: nn.Module,
    loss: Loss,
    data: TensorDataset,
    batch: int,
    passes: int,
    l2: float = 0.0,
    base: torch.optim.Optimizer | None = None,
    first: int = 2,
) -> float:
    """Train by SecantTO with its defaults; return the seconds."""
    sampler = ChunkSampler(data, batch)
    loader = DataLoader(data, sampler=sampler, batch_size=None)
    params = model.parameters()
    optimizer = SecantTO(params, sampler, weight_decay=l2, base=base, first=first)
    return _train(model, loss, loader, optimizer, passes)


def adam(
    model: nn.Module,
    loss: Loss,
    data: TensorDataset,
    batch: int,
    passes: int,
    l2: float = 0.0,
    lr: float = 1e-2,
) -> float:
    """Train by ADAM, with a rate that falls to 0 along a cosine; return the seconds."""
    rows = BatchSampler(RandomSampler(data), batch, drop_last=False)
    loader = DataLoader(data, sampler=rows, batch_size=None)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=l2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, passes * len(rows))
    return _train(model, loss, loader, optimizer, passes, falling.step)


def lbfgs(
    model: nn.Module, loss: Loss, data: TensorDataset, evaluations: int, l2: float = 0.0
) -> float:
    """Train by L-BFGS on all rows; return the seconds. An evaluation is a pass over the data."""
    x, y = data.tensors
    params = list(model.parameters())
    optimizer = torch.optim.LBFGS(
        params,
        max_iter=evaluations,
        max_eval=evaluations,
        history_size=20,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model(x), y) + l2 / 2 * sum(p.square().sum() for p in params)
        value.backward()
        return value

    begin = time.perf_counter()
    optimizer.step(closure)
    return time.perf_counter() - begin


def objective(model: nn.Module, loss: Loss, data: TensorDataset, l2: float = 0.0) -> float:
    """Return F, mean loss and λ/2 ‖w‖², in float64."""
    x, y = data.tensors
    double = {name: value.detach().double() for name, value in model.named_parameters()}
    outputs = torch.func.functional_call(model, double, (x.double(),))
    target = y.double() if y.is_floating_point() else y
    return float(loss(outputs, target)) + l2 / 2 * sum(
        float(value.square().sum()) for value in double.values()
    )


def show(title: str, rows: list[Row], best: float | None, score: str) -> dict[str, Row]:
    """Print the table, the lowest F first, and return its rows by method.

    Args:
        title: what was trained on what.
        rows: in any order.
        best: F*; where it isn't known, F itself is shown.
        score: what the score is.
    """
    known = best is not None
    print(f"{title}\n{'':32}passes  seconds   {'F − F*' if known else '     F'}  {score}")
    for row in sorted(rows, key=lambda row: row.value):
        value = f"{max(row.value - best, 0):8.1e}" if best is not None else f"{row.value:8.5f}"
        print(f"{row.method:32}{row.passes:6}  {row.seconds:7.2f} {value}  {row.score:.4f}")
    return {row.method: row for row in rows}


def _train(
    model: nn.Module,
    loss: Loss,
    loader: DataLoader[tuple[Tensor, ...]],
    optimizer: torch.optim.Optimizer,
    passes: int,
    after: Callable[[], None] = lambda: None,
) -> float:
    begin = time.perf_counter()
    for x, y in _batches(loader, passes):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        after()
    return time.perf_counter() - begin


def _batches(loader: DataLoader[tuple[Tensor, ...]], passes: int) -> Iterator[tuple[Tensor, ...]]:
    for _ in range(passes):
        yield from loader
