"""What is compared: each trains a network pass by pass, and says how many passes it has taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import Optimizer

from trainopt import ChunkSampler, SecantTO
from trainopt.scientific.bfgs import self_scaled_bfgs
from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem

Settings: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What an optimizer is given.

    Attributes:
        problem: what is minimised.
        network: at its start; it is trained in place.
        seed: of the order of the rows.
        passes: to take.
        chunks: mini-batches of a pass, of about equally many rows.
    """

    problem: Problem
    network: Network
    seed: int
    passes: int
    chunks: int

    def sampler(self, fixed: bool) -> ChunkSampler:
        """The passes' mini-batches: the same rows in each every time, or new ones."""
        rows = len(self.problem.rows)
        batch = -(-rows // self.chunks)
        return ChunkSampler(rows, batch, self.chunks if fixed else 1, seed=self.seed)

    def batches(self, sampler: ChunkSampler) -> Iterator[Tensor]:
        """The loss of each mini-batch of the next pass, its gradient put in place."""
        for rows in sampler:
            self.network.zero_grad()
            loss = self.problem.losses(self.network, self.problem.rows[rows]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            yield loss.detach()

    def full(self) -> Tensor:
        """The full loss, whose gradients replace those there were: one pass."""
        self.network.zero_grad()
        loss = self.problem.loss(self.network)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def _passes(run: Run, optimizer: Optimizer, end: float, fixed: bool) -> Iterator[int]:
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, end ** (1 / run.passes))
    sampler = run.sampler(fixed)
    for done in range(run.passes):
        for _ in run.batches(sampler):
            optimizer.step()
        decay.step()
        yield done + 1


def adam(run: Run, lr: float, end: float = 0.01, fixed: bool = False) -> Iterator[int]:
    """ADAM, whose rate decays exponentially to `end` times the first one."""
    return _passes(run, torch.optim.Adam(run.network.parameters(), lr), end, fixed)


def secant(run: Run, lr: float, first: int, pairs: int, scale: float) -> Iterator[int]:
    """SecantTO after `first` passes of ADAM at a constant rate; it is given the losses."""
    sampler = run.sampler(fixed=True)
    params = list(run.network.parameters())
    base = torch.optim.Adam(params, lr)
    optimizer = SecantTO(params, sampler, base=base, first=first, pairs=pairs, scale=scale)
    for done in range(run.passes):
        for loss in run.batches(sampler):
            optimizer.step(loss=loss)
        yield done + 1


def _first(run: Run, lr: float, first: int) -> Iterator[int]:
    """SecantTO's base phase."""
    return adam(replace(run, passes=first), lr, end=1.0, fixed=True)


def adam_lbfgs(run: Run, lr: float, first: int) -> Iterator[int]:
    """ADAM for `first` passes, then L-BFGS with strong Wolfe steps; an evaluation is a pass."""
    yield from _first(run, lr, first)
    done = first

    def closure() -> float:
        nonlocal done
        done += 1
        return float(run.full())

    optimizer = torch.optim.LBFGS(
        run.network.parameters(),
        max_iter=20,
        history_size=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    while True:
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        yield done


def adam_bfgs(run: Run, lr: float, first: int) -> Iterator[int]:
    """ADAM for `first` passes, then self-scaled BFGS; an evaluation is a pass."""
    yield from _first(run, lr, first)
    params = list(run.network.parameters())
    done = first

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal done
        done += 1
        vector_to_parameters(torch.from_numpy(w), params)
        loss = float(run.full())
        grads = [p.grad for p in params if p.grad is not None]
        return loss, parameters_to_vector(grads).numpy()

    for w in self_scaled_bfgs(function, parameters_to_vector(params).detach().numpy().copy()):
        vector_to_parameters(torch.from_numpy(w), params)
        yield done


OPTIMIZERS: dict[str, Callable[..., Iterator[int]]] = {
    "secant": secant,
    "adam": adam,
    "adam-chunks": partial(adam, fixed=True),
    "adam-base": partial(adam, end=1.0, fixed=True),
    "adam-lbfgs": adam_lbfgs,
    "adam-bfgs": adam_bfgs,
}
CONTROLS = ("adam-base", "adam-chunks")
"""Those that show where a gain comes from: the base phase, or the order of the rows."""
