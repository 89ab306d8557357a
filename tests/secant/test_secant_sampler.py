"""ChunkSampler and Plan: which rows are read when."""

import copy
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from secant_common import Problem, new, take, train
from torch.utils.data import DataLoader, TensorDataset

from trainopt import ChunkSampler, SecantTO
from trainopt.secant import Plan


def chunks_of(sampler, batches):
    """The rows of each chunk of a pass."""
    edges = [0, *(end * sampler.accumulate for end in sampler.plan.ends)]
    return [sorted(chain(*batches[a:b])) for a, b in pairwise(edges)]


@pytest.mark.parametrize("rows", [1, 7, 16, 45, 47])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_same_rows_are_in_the_same_chunk_in_every_pass(rows, accumulate):
    sampler = ChunkSampler(rows, 4, chunks=3, accumulate=accumulate)
    passes = [list(sampler) for _ in range(3)]
    for batches in passes:
        assert sorted(chain(*batches)) == list(range(rows))
        assert len(batches) == len(sampler)
        assert chunks_of(sampler, batches) == chunks_of(sampler, passes[0])
        steps = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
        assert tuple(sum(map(len, step)) for step in steps) == sampler.plan.rows
    if rows > 16:
        assert passes[0] != passes[1]


def test_the_order_is_that_of_seed_and_epoch():
    a, b = ChunkSampler(40, 4, seed=3), ChunkSampler(range(40), 4, seed=3)
    first, second = list(a), list(a)
    assert (list(b), list(b)) == (first, second)
    b.set_epoch(0)
    assert list(b) == first
    assert list(ChunkSampler(40, 4, seed=4)) != first
    fixed = ChunkSampler(40, 4, seed=3, shuffle=False)
    assert list(fixed) == list(fixed)


def test_chunks_have_nearly_equally_many_steps():
    assert Plan.split([4] * 11 + [1], chunks=5).ends == (2, 5, 7, 10, 12)
    assert Plan.split([4, 4], chunks=8).ends == (1, 2)
    assert Plan.split([3, 1], chunks=2).shares == (0.75, 0.25)


def test_a_rank_reads_its_share_of_every_batch():
    ranks = [ChunkSampler(45, 4, num_replicas=2, rank=rank) for rank in range(2)]
    joined = ChunkSampler(44, 8)
    shares = [list(rank) for rank in ranks]
    assert len(shares[0]) == len(shares[1]) == len(joined)
    assert ranks[0].plan == ranks[1].plan == joined.plan
    seen = [row for share in shares for batch in share for row in batch]
    assert len(seen) == len(set(seen)) == 44  # one row is left over, the same in every pass
    assert all(len(a) == len(b) for a, b in zip(*shares, strict=True))
    again = [row for rank in ranks for batch in rank for row in batch]
    assert set(again) == set(seen)


def test_seek_goes_on_in_the_middle_of_a_pass():
    sampler = ChunkSampler(40, 4, accumulate=2)
    passes = [list(sampler) for _ in range(3)]
    other = ChunkSampler(40, 4, accumulate=2)
    other.seek(sampler.plan.steps + 2)
    other.set_epoch(1)  # as a loop does that counts its own epochs
    assert list(other) == passes[1][4:]
    assert list(other) == passes[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"chunks": 0}, "chunks=0"),
        ({"accumulate": -1}, "accumulate=-1"),
        ({"num_replicas": 2, "rank": 2}, "rank=2"),
        ({"num_replicas": 50}, "num_replicas=50"),
    ],
)
def test_a_sampler_refuses_what_it_cannot_do(settings, message):
    with pytest.raises(ValueError, match=message):
        ChunkSampler(40, **{"batch_size": 4, **settings})


@pytest.mark.parametrize(
    ("rows", "ends"), [((), ()), ((3, 0), (2,)), ((3, 3), (1,)), ((3,), (1, 1))]
)
def test_a_plan_that_is_none_is_refused(rows, ends):
    with pytest.raises(ValueError, match=r"^rows|^ends="):
        Plan(rows, ends)


def test_workers_make_no_difference():
    problem = Problem()
    data = TensorDataset(torch.arange(problem.n))
    ends = []
    for workers in (0, 2):
        w, sampler, optimizer = new(problem)
        loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)
        for _ in range(4):
            for (rows,) in loader:
                take(problem, w, optimizer, rows)
        ends.append(w.detach())
    assert torch.equal(*ends)


def test_a_loader_of_another_length_is_named_at_the_end_of_the_first_pass():
    problem = Problem()
    for length in (9, 17, 36):  # the plan has 18 steps
        w = torch.nn.Parameter(torch.zeros(problem.d, dtype=torch.float64))
        plan = Plan.split([5] * 18, chunks=3)
        batches = plan.follow([list(range(5))] * length)
        optimizer = SecantTO([w], batches)
        with pytest.raises(RuntimeError, match="the plan's takes 18: give the optimizer the plan"):
            train(problem, w, batches, optimizer, 2)
        assert optimizer.steps == min(length, 18)


def test_passes_without_steps_are_no_fault():
    problem = Problem()
    w, sampler, optimizer = new(problem)
    for _ in range(3):
        list(sampler)
        for rows in sampler:
            take(problem, w, optimizer, rows)
        list(sampler)
    assert optimizer.steps == 3 * sampler.plan.steps


def test_an_optimizer_that_goes_on_elsewhere_than_its_loader_is_named():
    problem = Problem()
    w, sampler, optimizer = new(problem)
    for rows in list(sampler)[:7]:
        take(problem, w, optimizer, rows)
    other, its_sampler, restored = new(problem)
    restored.load_state_dict(optimizer.state_dict())
    with pytest.raises(RuntimeError, match=r"call seek\(optimizer.steps\)"):
        take(problem, other, restored, next(iter(its_sampler)))


def test_a_resumed_run_reads_on_where_it_was():
    """In the middle of a chunk, with workers that had run ahead: bit for bit as without a stop."""
    problem = Problem("logistic")
    data = TensorDataset(torch.arange(problem.n))
    straight, sampler, optimizer = new(problem)
    train(problem, straight, sampler, optimizer, 6)
    w, sampler, optimizer = new(problem)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=1)
    stop = 3 * sampler.plan.steps + 7
    for _ in range(4):
        for (rows,) in loader:
            if optimizer.steps == stop:
                break
            take(problem, w, optimizer, rows)
    other, its_sampler, restored = new(problem)
    other.data.copy_(w.data)
    restored.load_state_dict(optimizer.state_dict())
    its_sampler.seek(restored.steps)
    for _ in range(3):
        for (rows,) in DataLoader(data, batch_sampler=its_sampler):
            take(problem, other, restored, rows)
    assert torch.equal(other, straight)


def test_a_run_can_go_back_to_an_earlier_state():
    problem = Problem()
    w, sampler, optimizer = new(problem)
    for rows in sampler:
        if optimizer.steps == 7:
            saved, start = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
        if optimizer.steps == 10:
            break
        take(problem, w, optimizer, rows)
    end = w.detach().clone()
    optimizer.load_state_dict(saved)
    w.data.copy_(start)
    sampler.seek(optimizer.steps)
    for rows in sampler:
        if optimizer.steps == 10:
            break
        take(problem, w, optimizer, rows)
    assert torch.equal(w, end)


def test_gradients_that_are_accumulated_are_one_step():
    """Three batches of 4 added up are a batch of 12."""
    problem = Problem("logistic", n=72)
    ends = []
    for batch, accumulate in ((12, 1), (4, 3)):
        sampler = ChunkSampler(problem.n, batch, 3, accumulate=accumulate, seed=1)
        w, _, optimizer = new(problem, sampler=sampler)
        for _ in range(5):
            for i, rows in enumerate(sampler):
                (problem.loss(w, rows) / accumulate).backward()
                if (i + 1) % accumulate == 0:
                    optimizer.step()
                    optimizer.zero_grad()
        ends.append(w.detach())
    torch.testing.assert_close(*ends, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("setting", [{"batch_size": 8.0}, {"chunks": 2.5}, {"accumulate": True}])
def test_numbers_that_are_not_whole_are_named(setting):
    with pytest.raises(TypeError, match=f"{next(iter(setting))}=.* whole number"):
        ChunkSampler(64, **{"batch_size": 8, **setting})
    with pytest.raises(ValueError, match="steps=-1"):
        ChunkSampler(64, 8).seek(-1)


def test_a_plan_of_numpy_numbers_is_one_of_pythons():
    """A state dict with NumPy numbers in it can't be loaded with weights_only=True."""
    plan = Plan.split(np.full(4, 8), 2)
    assert plan == Plan([8, 8, 8, 8], (2, 4))
    assert {type(n) for n in (*plan.rows, *plan.ends)} == {int}
    with pytest.raises(TypeError):
        Plan((4.5, 4), (2,))
