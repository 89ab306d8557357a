"""An argument of the wrong kind gets a sentence that names it, its value and what to give."""

import math

import pytest
import torch
from secant_common import Problem, new, take

from trainopt import ChunkSampler, SecantTO
from trainopt.secant import Plan

PLAN = Plan.split([5, 5], 2)


def make_adam(params):
    return torch.optim.Adam(params)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("adam", "base='adam' is a str: give an optimizer built of the same parameters"),
        (torch.optim.Adam, "is a type: give an optimizer"),
        (make_adam, "is a function: give an optimizer"),
        (False, "base=False is a bool"),
        (torch.optim.LBFGS([torch.zeros(1)]), "base=LBFGS needs a closure"),
    ],
)
def test_a_base_that_cannot_step_is_refused(base, message):
    with pytest.raises(TypeError, match=message):
        new(Problem(), base=base)


@pytest.mark.parametrize(
    "settings",
    [
        {"data": None},
        {"data": True},
        {"data": 2.5},
        {"data": math.nan},
        {"data": iter([1])},
        {"data": torch.tensor(3)},
        {"shuffle": "no"},
        {"shuffle": None},
        {"seed": 1.5},
        {"seed": None},
        {"seed": True},
        {"rank": "0"},
        {"rank": 0.0},
        {"rank": None},
    ],
)
def test_what_is_no_argument_of_a_sampler_is_named(settings):
    ((name, _),) = settings.items()
    with pytest.raises(TypeError, match=f"^{name}=.* is a .*: give "):
        ChunkSampler(**{"data": 20, "batch_size": 5, **settings})


def test_a_seed_has_64_bits():
    ChunkSampler(20, 5, seed=-(2**63))
    with pytest.raises(ValueError, match=f"^seed={2**63} "):
        ChunkSampler(20, 5, seed=2**63)


@pytest.mark.parametrize("value", [-1, True, 2.0, "3", None])
@pytest.mark.parametrize("method", ["seek", "set_epoch"])
def test_a_sampler_s_clock_is_a_whole_number(method, value):
    sampler = ChunkSampler(20, 5, shuffle=False)
    with pytest.raises(ValueError, match=f"={value!r} is not allowed: give a whole number ≥ 0"):
        getattr(sampler, method)(value)
    assert (sampler.epoch, len(list(sampler))) == (0, 4)


@pytest.mark.parametrize(
    ("rows", "ends", "message"),
    [
        (5, (1,), "^rows=5 is a int"),
        (None, (1,), "^rows=None"),
        ("55", (1, 2), "^rows='55'"),
        ((5.0, 5), (1, 2), "^rows has 5.0, a float"),
        ((5, math.nan), (1, 2), "^rows has nan"),
        ((True, 5), (1, 2), "^rows has True"),
        ((5, 5), 2, "^ends=2"),
        ((5, 5), (1, "2"), "^ends has '2'"),
    ],
)
def test_a_plan_is_of_whole_numbers(rows, ends, message):
    with pytest.raises(TypeError, match=message):
        Plan(rows, ends)


@pytest.mark.parametrize("chunks", ["2", 2.0, True, None])
def test_a_plan_s_chunks_are_a_whole_number(chunks):
    with pytest.raises(TypeError, match=f"^chunks={chunks!r} .*give a whole number"):
        Plan.split([5, 5], chunks)


@pytest.mark.parametrize("batches", [None, 5, iter([1, 2]), (x for x in "ab")])
def test_batches_are_read_in_every_pass(batches):
    with pytest.raises(TypeError, match=r"^batches=.*iterated again in every pass"):
        PLAN.follow(batches)


@pytest.mark.parametrize("loss", ["1.5", True, [1.0], 1j, {}, torch.tensor(1j)])
def test_a_loss_is_one_number(loss):
    problem = Problem()
    w, sampler, optimizer = new(problem)
    take(problem, w, optimizer, next(iter(sampler)))
    before = w.detach().clone()
    with pytest.raises(TypeError, match=r"^loss=.*give one number"):
        optimizer.step(loss=loss)
    with pytest.raises(TypeError, match=r"^closure=.*step\(loss="):
        optimizer.step(1.5)
    assert optimizer.steps == 1
    assert torch.equal(w, before)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([torch.zeros(3, dtype=torch.long)], TypeError, r"^params .*int64, of shape \(3,\)"),
        ([{"params": []}], ValueError, "^params has groups without"),
    ],
)
def test_parameters_are_numbers_that_can_be_trained(params, error, message):
    with pytest.raises(error, match=message):
        SecantTO(params, PLAN)


def test_an_estimate_is_of_a_parameter():
    optimizer = new(Problem())[2]
    with pytest.raises(TypeError, match=r"^param='w' is a str"):
        optimizer.estimate("w")
