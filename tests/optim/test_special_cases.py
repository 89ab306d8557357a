"""α = 0 is an optimizer everyone knows: SGD at β = 1, SGD with momentum below."""

import pytest
import torch
from common import IDS, SETTINGS, assert_same, clone_params, fill_grads, make_params

from trainopt import DiagonalTO, FullTO


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sgd_to_the_last_bit(cls, extra, foreach, dtype):
    ours = make_params(dtype)
    theirs = clone_params(ours)
    to = cls(ours, lr=0.1, alpha=0.0, beta=1.0, foreach=foreach, **extra)
    sgd = torch.optim.SGD(theirs, lr=0.1, foreach=foreach)
    for t in range(50):
        for params, optimizer in ((ours, to), (theirs, sgd)):
            fill_grads(params, t)
            optimizer.step()
    assert_same(ours, theirs)


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.parametrize("maximize", [False, True])
def test_momentum_with_dampening(cls, extra, momentum, maximize):
    ours = make_params()
    theirs = clone_params(ours)
    to = cls(ours, lr=0.1, alpha=0.0, beta=1 - momentum, maximize=maximize, **extra)
    sgd = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, dampening=momentum, maximize=maximize)
    for p in theirs:  # torch starts the buffer at the first gradient, the method at 0
        sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
    for t in range(50):
        for params, optimizer in ((ours, to), (theirs, sgd)):
            fill_grads(params, t)
            optimizer.step()
    assert_same(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_with_alpha_zero_the_variants_are_one_optimizer(beta):
    ends = []
    for cls, extra in SETTINGS:
        params = make_params()
        optimizer = cls(params, lr=0.1, alpha=0.0, beta=beta, **extra)
        for t in range(30):
            fill_grads(params, t)
            optimizer.step()
        ends.append(params)
    for end in ends[1:]:
        assert_same(ends[0], end, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cls", [DiagonalTO, FullTO])
def test_where_the_weights_stand_still_learning_a_is_a_larger_beta(cls):
    params = make_params()
    to = cls(params, lr=0.0, alpha=0.02, beta=0.3)
    squares = [p.detach().square() for p in params]
    if cls is FullTO:
        squares = [sum(s.sum() for s in squares)] * len(params)
    averages = [torch.zeros_like(p) for p in params]
    for t in range(20):
        fill_grads(params, t)
        for average, p, square in zip(averages, params, squares, strict=True):
            average.add_((0.3 + 0.02 * square) * (p.grad - average))
        to.learn()
        estimates = [to.estimate(p) for p in params]
        assert_same(estimates, averages, rtol=1e-11, atol=1e-12)


def test_weight_decay_is_decoupled_as_in_adamw():
    ours = make_params()
    start = [p.detach().clone() for p in ours]
    to = DiagonalTO(ours, lr=0.1, weight_decay=0.5)
    for p in ours:
        p.grad = torch.zeros_like(p)
    to.step()
    assert_same(ours, [p * (1 - 0.1 * 0.5) for p in start], rtol=1e-14, atol=0)
