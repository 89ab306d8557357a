"""What is measured, against dense linear algebra and closed forms."""

import math

import numpy as np
import pytest
import torch

from trainopt.advice.measures import Spectrum, correlation, noise, off_diagonal, spectrum, spread
from trainopt.advice.objective import Objective
from trainopt.advice.prediction import predictions


def symmetric(d, seed=0):
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(d, d))
    return torch.from_numpy(half + half.T)


def signs(m, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 2, (m, d), generator=generator) * 2 - 1).double()


def test_as_many_products_as_weights_give_the_ends_exactly():
    matrix = symmetric(12)
    values = np.linalg.eigvalsh(matrix.numpy())
    found = spectrum(lambda v: matrix @ v, signs(1, 12)[0], 12)
    assert (found.low, found.high) == (pytest.approx(values[0]), pytest.approx(values[-1]))
    assert max(found.low_error, found.high_error) < 1e-9
    assert found.negative


def test_with_few_products_an_eigenvalue_is_within_the_error_of_each_end():
    matrix = symmetric(60)
    values = np.linalg.eigvalsh(matrix.numpy())
    asked = []
    found = spectrum(lambda v: asked.append(v) or matrix @ v, signs(1, 60)[0], 10)
    assert len(asked) == 10
    assert values[0] <= found.low < found.high <= values[-1]
    assert np.abs(values - found.low).min() <= found.low_error
    assert np.abs(values - found.high).min() <= found.high_error


def test_a_krylov_space_that_is_complete_ends_the_products():
    asked = []
    found = spectrum(lambda v: asked.append(v) or 3 * v, torch.ones(50), 10)
    assert len(asked) == 1
    assert (found.low, found.high) == (pytest.approx(3), pytest.approx(3))
    assert not found.negative


def test_negative_curvature_is_more_than_rounding():
    assert not Spectrum(-1e-7, 1.0, 0.0, 0.0).negative
    assert not Spectrum(-0.1, 1.0, 0.2, 0.0).negative
    assert Spectrum(-0.1, 1.0, 0.01, 0.0).negative


def test_off_diagonal_part():
    matrix = symmetric(8)
    whole = matrix.square().sum()
    exact = (1 - matrix.diagonal().square().sum() / whole).item()
    assert off_diagonal(lambda v: matrix @ v, signs(8, 8)) == pytest.approx(exact)
    assert off_diagonal(lambda v: 5.0 * v, signs(4, 100)) == pytest.approx(0)
    assert math.isnan(off_diagonal(lambda v: 0 * v, signs(4, 100)))
    large = symmetric(40, seed=1) * 2 + torch.diag(torch.arange(1.0, 41.0, dtype=torch.float64))
    exact = (1 - large.diagonal().square().sum() / large.square().sum()).item()
    found = np.mean([off_diagonal(lambda v: large @ v, signs(20, 40, seed=s)) for s in range(30)])
    assert found == pytest.approx(exact, abs=0.02)


def test_noise_of_a_quadratic_with_known_noise():
    # Each row has the gradient w + noise of variance 4 in each of 50 coordinates; w is all ones.
    # tr Σ = 200 and ‖∇F‖² = 50: a row has 4 times the signal, a mini-batch of 8 rows half of it.
    generator = torch.Generator().manual_seed(0)
    rows = 1 + 2 * torch.randn(400, 8, 50, generator=generator)
    found = noise(rows.mean(1), rows=8)
    assert found.ratio == pytest.approx(0.5, rel=0.1)
    assert found.scale == pytest.approx(4, rel=0.1)


def test_noise_has_no_bias_of_few_mini_batches():
    generator = torch.Generator().manual_seed(0)
    batches = 1 + torch.randn(2000, 4, 20, generator=generator)
    ratios = [1 / noise(each, 1).ratio for each in batches]
    assert np.median(ratios) == pytest.approx(1, rel=0.1)


def test_noise_at_its_ends():
    assert noise(torch.ones(3, 5), 8).ratio == 0
    assert noise(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), 8).ratio == math.inf


def test_correlation_is_the_mean_over_pairs_without_chance():
    gradients = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).double()
    r = np.corrcoef(gradients.numpy().T)
    squared = (r[~np.eye(9, dtype=bool)] ** 2).mean()
    assert correlation(gradients) == pytest.approx((squared - 1 / 5) / (1 - 1 / 5))
    together = torch.randn(6, 1) * torch.arange(1.0, 5.0)
    assert correlation(together) == pytest.approx(1)
    apart = torch.randn(20, 2000, generator=torch.Generator().manual_seed(1))
    assert correlation(apart) == pytest.approx(0, abs=0.005)
    assert math.isnan(correlation(torch.ones(4, 3)))


def test_spread_counts_decades():
    sizes = torch.tensor([0.1, 10.0, 0.0])
    assert spread(sizes.repeat(4, 1)) == pytest.approx(np.std([-1, 1], ddof=1))
    assert spread(torch.ones(4, 3)) == 0


def test_the_hessian_of_a_network_is_that_of_autograd():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    model.double()
    x, y = torch.randn(7, 2).double(), torch.randn(7, 1).double()
    params = list(model.parameters())

    def loss(batch):
        return (model(batch[0]) - batch[1]).square().mean()

    def flat_loss(flat):
        pieces = flat.split([p.numel() for p in params])
        named = {
            name: piece.view_as(p)
            for (name, p), piece in zip(model.named_parameters(), pieces, strict=True)
        }
        return (torch.func.functional_call(model, named, x) - y).square().mean()

    start = torch.cat([p.detach().reshape(-1) for p in params])
    dense = torch.func.hessian(flat_loss)(start)
    objective = Objective(params, loss, [(x, y)])
    product = objective.hessian((x, y))
    columns = torch.stack([product(v) for v in torch.eye(len(start)).double()])
    torch.testing.assert_close(columns, dense)
    assert objective.spent == 2 * len(start)
    ends = spectrum(product, signs(1, len(start))[0], len(start))
    values = np.linalg.eigvalsh(dense.numpy())
    assert ends.low == pytest.approx(values[0], abs=1e-9)
    assert ends.high == pytest.approx(values[-1])


def test_a_loss_without_curvature_has_a_hessian_of_zeros():
    w = torch.ones(3, requires_grad=True)
    objective = Objective([w], lambda x: (x @ w).mean(), [torch.ones(4, 3)])
    assert not objective.hessian(torch.ones(4, 3))(torch.ones(3)).any()


def test_a_moving_average_comes_near_a_gradient_that_stays():
    # b ← b + 0.1 (g − b) from 0: before the t-th update 0.9^t of g is missing.
    w = torch.ones(3, requires_grad=True)
    objective = Objective([w], lambda x: (x @ w).mean(), [torch.ones(4, 3)])
    scores, descended = predictions(objective, 30, lr=0.01)
    expected = 1 - np.mean([0.81**t for t in range(10, 30)])
    assert scores["none"] == pytest.approx(expected, rel=1e-5)
    assert descended == pytest.approx(30 * 0.01 * 3 / 3)
    assert objective.spent == 30


def test_a_full_model_learns_a_gradient_that_turns_with_the_weights():
    curvature = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    w = torch.tensor([4.0, -5.0], requires_grad=True)
    objective = Objective([w], lambda x: 0.5 * w @ curvature @ w + 0 * x.sum(), [torch.ones(4)])
    scores, descended = predictions(objective, 30, lr=0.05)
    assert scores["full"] > scores["none"]
    assert 0.9 < descended <= 1


def test_a_run_that_blows_up_is_slowed_down():
    w = torch.tensor([1.0], requires_grad=True)
    objective = Objective([w], lambda x: 50 * w.square().sum() + 0 * x.sum(), [torch.ones(4)])
    scores, descended = predictions(objective, 40, lr=0.05)  # 2.5 times what is stable
    assert all(map(math.isfinite, scores.values()))
    assert descended > 0
