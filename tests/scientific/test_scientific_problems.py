"""The problems: derivatives, residuals of the solutions, solutions by other methods, and rows."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from trainopt.scientific.network import Jet, Network
from trainopt.scientific.problems import (
    PROBLEMS,
    allen_cahn,
    burgers,
    convection,
    elliptic,
    pendulum,
)

SMALL = [
    pytest.param(name, marks=pytest.mark.real if name == "diamonds" else []) for name in PROBLEMS
]


class Solution:
    """A function in place of the network; its derivatives are autograd's."""

    def __init__(self, function):
        self.function = function

    def __call__(self, points):
        return self.function(points)

    def jet(self, points, second=()):
        x = points.clone().requires_grad_()
        value = self.function(x)
        (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        curved = [
            torch.autograd.grad(first[:, j].sum(), x, retain_graph=True)[0][:, j] for j in second
        ]
        return Jet(value.detach(), [f.detach() for f in first.T], curved)


def test_a_jet_has_the_derivatives_of_autograd():
    network = Network([-1.0, 0.0], [2.0, 5.0], (7, 6), seed=3)
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jet, known = network.jet(points, second=(1, 0)), Solution(network).jet(points, second=(1, 0))
    torch.testing.assert_close(jet.value, network(points))
    torch.testing.assert_close(jet.first, known.first)
    torch.testing.assert_close(jet.second, known.second)


EXACT = {
    "poisson": lambda x: elliptic.solution(x, (1, 2)),
    "helmholtz": lambda x: elliptic.solution(x, (1, 4)),
    "burgers": burgers.solution,
    "convection": convection.solution,
}


@pytest.mark.parametrize("name", EXACT)
def test_the_solution_has_no_loss_and_no_error(name):
    problem, solution = PROBLEMS[name](), Solution(EXACT[name])
    residuals = problem.residuals(solution, problem.rows)
    assert residuals.abs().max() < 1e-6
    assert problem.losses(solution, problem.rows).max() < 1e-12
    assert problem.error(solution) == pytest.approx(0, abs=1e-12)
    # And what isn't the solution has both.
    other = Solution(lambda x: 1.1 * EXACT[name](x))
    assert problem.residuals(other, problem.rows).square().mean() > 1e-4
    assert problem.error(other) == pytest.approx(0.1)


def test_burgers_by_finite_differences():
    x = np.linspace(-1, 1, 1201)
    h = x[1] - x[0]

    def rate(t, u):
        full = np.concatenate([[0.0], u, [0.0]])
        flow = (full[2:] ** 2 - full[:-2] ** 2) / (4 * h)
        return burgers.VISCOSITY * (full[2:] - 2 * u + full[:-2]) / h**2 - flow

    start = -np.sin(np.pi * x[1:-1])
    solved = solve_ivp(
        rate, (0, 0.3), start, method="LSODA", lband=1, uband=1, rtol=1e-7, atol=1e-9
    )
    points = torch.tensor(np.column_stack([x[1:-1], np.full(1199, 0.3)]))
    assert np.abs(burgers.solution(points).numpy() - solved.y[:, -1]).max() < 2e-3


def test_allen_cahn_by_finite_differences():
    x, t, u = (part.numpy() for part in allen_cahn.solution())
    fine = np.linspace(-1, 1, 401)
    h = fine[1] - fine[0]

    def rate(_, inner):
        full = np.concatenate([[-1.0], inner, [-1.0]])
        curved = (full[2:] - 2 * inner + full[:-2]) / h**2
        return allen_cahn.DIFFUSION * curved + allen_cahn.REACTION * (inner - inner**3)

    start = fine[1:-1] ** 2 * np.cos(np.pi * fine[1:-1])
    solved = solve_ivp(rate, (0, 1), start, method="LSODA", lband=1, uband=1, rtol=1e-7, atol=1e-9)
    known = np.interp(x[::-1], fine[1:-1], solved.y[:, -1], left=-1, right=-1)[::-1]
    assert t[-1] == 1
    assert np.abs(u[-1] - known).max() < 2e-3


def test_allen_cahns_solution_has_small_residuals():
    x, t, u = (part.numpy() for part in allen_cahn.solution())
    middle = 10
    h = t[1]
    curve = np.polynomial.Chebyshev.fit(x, u[middle], 60, domain=[-1, 1])
    rate = (u[middle - 2] - 8 * u[middle - 1] + 8 * u[middle + 1] - u[middle + 2]) / (12 * h)
    inner = slice(1, -1)

    class Measured:
        def jet(self, points, second):
            assert second == (0,)
            slope, bent = (curve.deriv(order)(x[inner]) for order in (1, 2))
            value, first = torch.tensor(u[middle][inner]), [slope, rate[inner]]
            return Jet(value, [torch.tensor(part) for part in first], [torch.tensor(bent)])

        def __call__(self, points):
            # The start for its points, and −1 for those at both ends.
            start, ends = points[: len(points) // 3], points[len(points) // 3 :]
            return torch.cat(
                [start[:, 0] ** 2 * torch.cos(math.pi * start[:, 0]), -1 + 0 * ends[:, 0]]
            )

    rows = torch.zeros(len(x) - 2, 4, dtype=torch.float64)
    found = allen_cahn.residuals(Measured(), rows)
    assert found[:, 0].abs().max() < 0.03
    assert np.abs(rate).max() > 1
    assert found[:, 1:].abs().max() < 1e-12


def test_the_pendulums_solution_has_no_residuals():
    problem = PROBLEMS["pendulum"]()
    times = problem.points[:, 0]
    curve = np.polynomial.Chebyshev.fit(times, problem.solution, 60, domain=[0, pendulum.END])

    class Measured:
        unknowns = torch.tensor([pendulum.FRICTION, pendulum.STIFFNESS])

        def jet(self, points, second):
            parts = [torch.tensor(curve.deriv(k)(points[:, 0].numpy())) for k in (1, 2)]
            return Jet(self(points), [parts[0]], [parts[1]])

        def __call__(self, points):
            return torch.tensor(curve(points[:, 0].numpy()))

    assert problem.residuals(Measured(), problem.rows).abs().max() < 1e-4
    assert problem.solution[0] == pytest.approx(2.0)
    assert curve.deriv()(0.0) == pytest.approx(0.0, abs=1e-6)
    assert problem.network(0).unknowns.tolist() == [1.0, 1.0]


@pytest.mark.real
def test_diamonds_error_is_that_of_rows_that_are_not_trained():
    problem = PROBLEMS["diamonds"]()
    assert problem.error(Solution(lambda x: 0 * x[:, 0])) == pytest.approx(1.0)
    target = problem.rows[:, -1]
    known = Solution(lambda x: target + 0 * x[:, 0])
    assert problem.loss(known) == 0
    trained = {tuple(row) for row in problem.rows[:, :-1].tolist()}
    kept = {tuple(row) for row in problem.points.tolist()}
    assert len(trained & kept) < 0.01 * len(trained)  # some diamonds are alike


@pytest.mark.parametrize("name", SMALL)
def test_equal_chunks_of_rows_have_the_full_loss_as_their_mean(name):
    problem = PROBLEMS[name]()
    network = problem.network(1)
    rows = problem.losses(network, problem.rows)
    assert rows.shape == (len(problem.rows),)
    assert problem.rows.dtype == rows.dtype == torch.float64
    chunks = [problem.losses(network, part).mean() for part in problem.rows.chunk(4)]
    mean = sum(chunks).item() / 4
    assert mean == pytest.approx(problem.loss(network).item())
    assert all(
        torch.equal(a, b) for a, b in zip(network.weights, problem.network(1).weights, strict=True)
    )
    assert not torch.equal(network.weights[0], problem.network(2).weights[0])
