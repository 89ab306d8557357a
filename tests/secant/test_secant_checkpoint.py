"""torch.distributed.checkpoint carries the whole state, and its dummy step leaves no trace."""

import copy

import pytest
import torch
import torch.distributed.checkpoint as dcp
from secant_common import Problem
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from trainopt import ChunkSampler, SecantTO

PROBLEM = Problem("logistic", n=60)


def make(base):
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 1).double()
    sampler = ChunkSampler(60, 5, 4)
    base = torch.optim.AdamW(model.parameters(), lr=0.05) if base else None
    groups = [{"params": [model.bias]}, {"params": [model.weight], "weight_decay": 1e-2}]
    return model, SecantTO(groups, sampler.plan, base=base)


def train(model, optimizer, batches):
    for rows in batches:
        optimizer.zero_grad()
        z, y = model(PROBLEM.x[rows])[:, 0], PROBLEM.y[rows]
        torch.nn.functional.binary_cross_entropy_with_logits(z, y).backward()
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


BATCHES = [rows for sampler in [ChunkSampler(60, 5, 4)] for _ in range(6) for rows in sampler]


@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")
@pytest.mark.parametrize("stop", [5, 40])  # in the base phase, and in the middle of a chunk
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("disk", [False, True])
def test_a_run_goes_on_bit_for_bit(stop, base, disk, tmp_path):
    model, optimizer = make(base)
    train(model, optimizer, BATCHES[:stop])
    optimizer.zero_grad()
    weights, state = copy.deepcopy(get_state_dict(model, optimizer))
    expected = train(model, optimizer, BATCHES[stop:])

    again, resumed = make(base)
    if disk:
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path, no_dist=True)
        weights, state = get_state_dict(again, resumed)
        found = {"model": weights, "optimizer": state}
        dcp.load(found, checkpoint_id=tmp_path, no_dist=True)
        weights, state = found["model"], found["optimizer"]
    set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    assert resumed.steps == stop
    assert [set(group) for group in resumed.param_groups] == [
        set(group) for group in optimizer.param_groups
    ]
    assert torch.equal(train(again, resumed, BATCHES[stop:]), expected)


@pytest.mark.parametrize("base", [False, True])
def test_the_dummy_step_leaves_a_fresh_optimizer_as_it_was(base):
    model, optimizer = make(base)
    before = copy.deepcopy(model.state_dict())
    get_state_dict(model, optimizer)
    assert optimizer.steps == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    twin, reference = make(base)
    assert torch.equal(train(model, optimizer, BATCHES), train(twin, reference, BATCHES))


def test_a_warm_up_may_begin_at_a_rate_of_zero():
    model, optimizer = make(False)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, t / 4))
    for rows in BATCHES:
        train(model, optimizer, [rows])
        scheduler.step()
    assert optimizer.steps == len(BATCHES)
    x, y = PROBLEM.x, PROBLEM.y
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y)
    loss = loss + 0.5e-2 * model.weight.square().sum()
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    assert max(float(g.abs().max()) for g in gradient) < 1e-3
