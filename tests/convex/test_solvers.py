"""SVRG, SAG, SAGA and L-BFGS reach the optimum that scikit-learn's direct solvers find."""

import numpy as np
import pandas as pd
import pytest
import torch

from trainopt.convex.batched import Batched, train_all
from trainopt.convex.optimum import optimum
from trainopt.convex.problems import build
from trainopt.convex.solvers import solver_rows
from trainopt.convex.svrg import SVRG


def closure(problem, w, rows=None):
    def evaluate():
        w.grad = None
        loss = problem.loss(w, rows)
        torch.autograd.backward(loss)
        return loss.item()

    return evaluate


def test_svrg_converges_to_the_optimum_of_ridge():
    problem = build("diabetes-ridge", l2=0.1)
    w = problem.initial().double().requires_grad_()
    svrg = SVRG(torch.optim.SGD([w], lr=0.1))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        svrg.anchor(closure(problem, w))
        for rows in problem.batches(generator):
            svrg.step(closure(problem, w, rows))
    # A constant rate and mini-batches: SGD would stop far above.
    np.testing.assert_allclose(w.detach().numpy(), optimum(problem).weights, atol=1e-7)


def test_an_svrg_step_is_its_formula():
    problem = build("wine-softmax")
    w = problem.initial().double().requires_grad_()
    svrg = SVRG(torch.optim.SGD([w], lr=0.5))
    with pytest.raises(RuntimeError, match="call anchor"):
        svrg.step(closure(problem, w))
    svrg.anchor(closure(problem, w))
    anchor = w.detach().clone()
    with torch.no_grad():
        w.add_(0.3)
    rows = torch.arange(10)
    before = w.detach().clone()

    def gradient(at, rows=None):
        at = at.clone().requires_grad_()
        return torch.autograd.grad(problem.loss(at, rows), at)[0]

    expected = gradient(before, rows) - gradient(anchor, rows) + gradient(anchor)
    loss = svrg.step(closure(problem, w, rows))
    torch.testing.assert_close(w.detach(), before - 0.5 * expected)
    assert loss == pytest.approx(problem.loss(before, rows).item())


def test_svrg_side_by_side_is_svrg():
    problem = build("wine-softmax")
    runs = train_all(
        Batched(problem), "svrg", [{"lr": 0.2, "lr_schedule": "constant"}], [5], 6, 0.0
    )
    w = problem.initial().requires_grad_()
    svrg = SVRG(torch.optim.SGD([w], lr=0.2))
    generator = torch.Generator().manual_seed(5)
    losses = [problem.objective(w)]
    for _ in range(2):  # an epoch of steps costs three passes
        batches = problem.batches(generator)
        svrg.anchor(closure(problem, w))
        for rows in batches:
            svrg.step(closure(problem, w, rows))
        losses.append(problem.objective(w))
    assert runs.passes == 3
    np.testing.assert_allclose(runs.suboptimality[0, 0], losses, rtol=1e-5)


@pytest.mark.parametrize("name", ["breast-cancer-logistic", "wine-softmax", "diabetes-ridge"])
def test_solvers_approach_the_optimum(name):
    problem = build(name, l2=0.05)
    best = optimum(problem).value
    rows = pd.DataFrame(solver_rows(problem, 60, best))
    assert set(rows.optimizer) == {"lbfgs", "sag", "saga"}
    assert rows.suboptimality.min() > -1e-9
    last = rows.sort_values("passes").groupby("optimizer").suboptimality.last()
    assert (last < 1e-4).all()
    assert last["lbfgs"] < 1e-7
    first = rows[rows.passes <= 1].groupby("optimizer").suboptimality.max()
    assert (first > 10 * last).all()


def test_scikit_learn_has_no_sag_for_the_squared_hinge():
    problem = build("breast-cancer-svm")
    rows = pd.DataFrame(solver_rows(problem, 5, optimum(problem).value))
    assert set(rows.optimizer) == {"lbfgs"}
    assert rows.passes.max() <= 5
