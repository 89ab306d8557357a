"""The step-size conditions: their arithmetic, and that the factor is what a step does."""

import pytest
import torch

from trainopt import (
    Diagonal,
    DiagonalTO,
    Estimator,
    FullTO,
    InverseTime,
    Normalised,
    RankOneTO,
    iterates_bounded,
    residual_factors,
    variables_bounded,
)
from trainopt.conditions import schedule_values


def test_iterates():
    met = iterates_bounded([0.1, 0.15], smoothness=10.0)
    assert met.met
    assert met.margin == pytest.approx(0.05)
    assert not iterates_bounded([0.2], smoothness=10.0).met  # not strictly below
    with pytest.raises(ValueError, match="smoothness=0 is not allowed"):
        iterates_bounded([0.1], 0)
    with pytest.raises(ValueError, match="lr has no rates"):
        iterates_bounded([], 1.0)


def test_variables():
    rates = schedule_values(InverseTime(0.1, 1.0), 3)
    assert rates == pytest.approx([0.1, 0.05, 0.1 / 3])
    condition = variables_bounded(rates, radius=2.0)
    assert condition.met
    assert condition.value == pytest.approx(0.55 / 3)
    assert condition.bound == 0.25
    assert not variables_bounded(rates, radius=3.0).met
    with pytest.raises(ValueError, match="radius=-1 is not allowed"):
        variables_bounded(rates, -1)


def residual_after(optimizer, w, g, names):
    """‖e‖ before and after the variables have learned from (w, g), the weights held."""
    norms = []
    for _ in range(2):
        w.grad = g.clone()
        optimizer.step()
        norms.append(optimizer.residual_norm().item())
        optimizer.zero_grad()
    return norms


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
def test_full_residuals_change_by_the_factor(alpha):
    w = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = FullTO([w], lr=0.0, alpha=alpha, beta=0.3)
    (factor,) = residual_factors(optimizer).values()
    assert factor == pytest.approx(abs(1 - 0.3 - alpha * 5.25))
    before, after = residual_after(optimizer, w, torch.tensor([1.0, 2.0, 3.0]), "Ab")
    assert after / before == pytest.approx(factor, rel=1e-5)


def test_diagonal_residuals_change_by_the_worst_factor_at_most():
    w = torch.tensor([0.1, -2.0, 0.5], requires_grad=True)
    optimizer = DiagonalTO([w], lr=0.0, alpha=0.8, beta=0.3)
    (factor,) = residual_factors(optimizer).values()
    assert factor == pytest.approx(abs(1 - 0.3 - 0.8 * 4))
    before, after = residual_after(optimizer, w, torch.tensor([0.0, 1.0, 0.0]), "ab")
    assert after / before == pytest.approx(factor, rel=1e-5)


def test_rank_one_residuals_change_by_the_factor_for_small_alpha():
    torch.manual_seed(0)
    w = torch.randn(6, requires_grad=True)
    optimizer = RankOneTO([w], lr=0.0, alpha=1e-3, beta=0.0)
    w.grad = torch.randn(6)
    optimizer.step()
    state = optimizer.state[w]
    state["a"].copy_(torch.randn(6))
    factor = residual_factors(optimizer)[w]
    s = (state["c"] @ w).item()
    growth = (w @ w).item() * (state["a"] @ state["a"]).item()
    expected = max(abs(1 - 1e-3 * s**2), abs(1 - 1e-3 * (s**2 + growth)))
    assert factor == pytest.approx(expected)
    # A gradient along a: the eigenvector of the smaller factor.
    g = (state["a"] * (s + 1.0) + state["b"]).detach()
    before, after = residual_after(optimizer, w, g, "acb")
    assert after / before == pytest.approx(1 - 1e-3 * (s**2 + growth), rel=1e-4)


def test_a_group_is_one_vector_and_rates_follow_the_clock():
    w = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    optimizer = FullTO(w, lr=0.1, alpha=InverseTime(0.1), beta=0.0, scope="group")
    assert list(residual_factors(optimizer).values()) == pytest.approx(2 * [abs(1 - 0.1 * 5)])
    for p in w:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert list(residual_factors(optimizer).values()) == pytest.approx(2 * [abs(1 - 0.05 * 5)])


@pytest.mark.parametrize("frozen_by", ["requires_grad", "no gradient"])
def test_tensors_that_no_step_moves_count_for_nothing(frozen_by):
    """Full-TO on one moving tensor, ‖w‖² = 5.25, beside a large frozen and an empty one."""
    w = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    frozen = torch.full((4,), 100.0, requires_grad=frozen_by == "no gradient")
    empty = torch.zeros(0, requires_grad=True)
    optimizer = FullTO([frozen, w, empty], lr=0.0, alpha=0.1, beta=0.3, scope="group")
    expected = pytest.approx(abs(1 - 0.3 - 0.1 * 5.25))
    if frozen_by == "requires_grad":
        assert residual_factors(optimizer) == {w: expected}
    before, after = residual_after(optimizer, w, torch.tensor([1.0, 2.0, 3.0]), "Ab")
    assert after / before == expected
    assert residual_factors(optimizer) == {w: expected}  # gradients are cleared: by state
    optimizer.state[frozen]  # an empty entry, as reading a defaultdict makes it
    assert residual_factors(optimizer) == {w: expected}


def test_a_frozen_tensor_does_not_hide_that_rank_one_diverges():
    """s = cᵀw = 3 at the start, a = 0: the residual is multiplied by 1 − β − 9 α."""
    w = torch.full((4,), 3.0, requires_grad=True)
    frozen = torch.ones(4)
    optimizer = RankOneTO(
        [w, frozen], lr=0.0, alpha=1.0, beta=0.5, scope="group", init=lambda p: p * 0 + 0.25
    )
    w.grad = torch.full((4,), 1e-6)
    optimizer.step()
    assert residual_factors(optimizer) == {w: pytest.approx(8.5, rel=1e-4)}


@pytest.mark.parametrize("cls", [DiagonalTO, FullTO, RankOneTO])
def test_empty_tensors_have_no_factor(cls):
    params = [torch.zeros(0, requires_grad=True), torch.ones(2, requires_grad=True)]
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer = cls(params, lr=0.0, alpha=0.0, beta=0.25, fused=False)
    optimizer.step()
    assert residual_factors(optimizer) == {params[1]: 0.75}
    assert residual_factors(cls(params[:1], lr=0.1)) == {}


def test_complex_weights_are_pairs_of_reals():
    w = torch.tensor([3 + 4j, 1j], requires_grad=True)
    full, diagonal = (cls([w], lr=0.0, alpha=0.1, beta=0.0) for cls in (FullTO, DiagonalTO))
    assert residual_factors(full)[w] == pytest.approx(abs(1 - 0.1 * 26))
    assert residual_factors(diagonal)[w] == pytest.approx(1.0)  # a real part is 0


def test_gradients_say_what_the_next_step_moves():
    """Both have state; only one has a gradient now, as in a mixture of experts."""
    a, b = (torch.full((2,), value, requires_grad=True) for value in (1.0, 10.0))
    optimizer = FullTO([a, b], lr=0.0, alpha=0.1, beta=0.3, scope="group")
    for p in (a, b):
        p.grad = torch.ones(2)
    optimizer.step()
    b.grad = None
    assert residual_factors(optimizer) == {a: pytest.approx(abs(1 - 0.3 - 0.1 * 2))}


@pytest.mark.parametrize("cls", [FullTO, DiagonalTO, RankOneTO])
def test_factors_of_weights_whose_squares_overflow(cls):
    w = torch.nn.Parameter(torch.full((2,), 1e25))
    w.grad = torch.ones(2)
    assert residual_factors(cls([w], lr=0.1, alpha=0.0, beta=0.3)) == {w: pytest.approx(0.7)}
    normalised = Estimator([w], Diagonal(), Normalised(0.5, 0.1))
    assert residual_factors(normalised) == {w: pytest.approx(abs(1 - 0.1 - 0.5))}


def test_factors_of_many_weights_are_the_worst_of_them():
    w = torch.nn.Parameter(torch.zeros(300, 700))
    w.data[299, 699], w.data[0, 0], w.data[150, 3] = 3.0, 2.0, -1.0
    w.grad = torch.ones_like(w)
    assert residual_factors(DiagonalTO([w], lr=0.1, alpha=1.0, beta=0.5))[w] == pytest.approx(8.5)
    w.data[299, 699] = 0.0
    assert residual_factors(DiagonalTO([w], lr=0.1, alpha=1.0, beta=0.5))[w] == pytest.approx(3.5)
