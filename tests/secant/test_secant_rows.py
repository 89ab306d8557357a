"""Rows whose gradients don't repeat: said once, with the likely cause, and no divergence."""

import warnings

import pytest
import torch
from secant_common import Problem, new, take, train
from torch import nn

from trainopt import ChunkSampler, SecantTO

SHUFFLED = "Give it a ChunkSampler"
RANDOM = "dropout, batch norm"


def shuffled(problem, generator):
    return torch.randperm(problem.n, generator=generator).split(5)


def replaced(problem, generator):
    return torch.randint(problem.n, (18, 5), generator=generator)


@pytest.mark.parametrize(
    ("chunks", "draw", "cause"),
    [(4, shuffled, SHUFFLED), (4, replaced, RANDOM), (1, replaced, RANDOM)],
)
def test_rows_that_wander_are_noticed(chunks, draw, cause):
    problem = Problem("logistic")
    w, _, optimizer = new(problem, chunks=chunks)
    generator = torch.Generator().manual_seed(0)
    history = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(25):
            for rows in draw(problem, generator):
                take(problem, w, optimizer, rows)
            history.append(problem.loss(w.detach()).item())
    assert len(caught) == 1
    assert cause in str(caught[0].message)
    assert caught[0].filename.endswith("secant_common.py")  # where step() was called
    start = problem.loss(torch.zeros(problem.d).double()).item()
    assert max(history) < start
    gap = history[-1] - problem.optimum()
    assert gap < (1e-8 if cause == SHUFFLED else 0.05)


def test_one_chunk_takes_any_loader_that_covers_the_data(recwarn):
    problem = Problem("logistic")
    w, _, optimizer = new(problem, chunks=1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        for rows in shuffled(problem, generator):
            take(problem, w, optimizer, rows)
    assert problem.loss(w.detach()).item() - problem.optimum() < 1e-8
    assert not recwarn.list


def net(*extra):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), *extra, nn.Tanh(), nn.Linear(8, 1))


def fit(model, passes=14, noise=0.0, shuffle=True, seed=0):
    """The loss after each pass of a small regression."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(120, 4, generator=generator)
    y = x[:, :1] * x[:, 1:2] + x[:, 2:3]
    sampler = ChunkSampler(120, 10, 4, shuffle=shuffle)
    base = torch.optim.Adam(model.parameters(), lr=0.01)
    optimizer = SecantTO(model.parameters(), sampler, base=base, first=3)
    history = []
    for _ in range(passes):
        for rows in sampler:
            inputs = x[rows] + noise * torch.randn(len(rows), 4, generator=generator)
            optimizer.zero_grad()
            (model(inputs) - y[rows]).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            history.append((model.eval()(x) - y).square().mean().item())
        model.train()
    return history


@pytest.mark.parametrize(
    ("extra", "settings"),
    [([nn.Dropout(0.1)], {}), ([], {"noise": 0.1}), ([nn.BatchNorm1d(8)], {})],
    ids=["dropout", "augmentation", "batch norm"],
)
def test_gradients_that_are_random_are_noticed(extra, settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(net(*extra), **settings)
    assert [RANDOM in str(w.message) for w in caught] == [True]
    assert max(history) < 3 * history[0]
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("extra", "settings"),
    [([], {}), ([nn.BatchNorm1d(8)], {"shuffle": False})],
    ids=["plain", "batch norm, the same batches in every pass"],
)
def test_gradients_that_repeat_are_left_in_peace(extra, settings, recwarn):
    history = fit(net(*extra), **settings)
    assert not recwarn.list
    assert history[-1] < history[0]


def test_the_check_comes_once_and_its_weights_are_put_back():
    """Chunk 1 is read at its old point early in the secant phase, and the run goes on from where
    it was: the step after the check isn't taken from the old point.
    """
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem, watch=False)
    batches = list(sampler)
    ends = sampler.plan.ends
    points = []
    for _ in range(12):
        for step, rows in enumerate(batches):
            take(problem, w, optimizer, rows)
            if step + 1 in ends:
                points.append(w.detach().clone())
    repeated = [
        (i, j)
        for i in range(len(points))
        for j in range(i + 1, len(points))
        if torch.equal(points[i], points[j])
    ]
    assert len(repeated) == 1  # the old point, once
    first, second = repeated[0]
    assert second - first == 4  # a pass later


def test_train_says_nothing_on_a_right_run(recwarn):
    problem = Problem("logistic")
    w, sampler, optimizer = new(problem)
    train(problem, w, sampler, optimizer, 30)
    assert not recwarn.list
