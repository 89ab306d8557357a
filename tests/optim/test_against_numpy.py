"""The three variants against the NumPy reference, on random problems of random shapes."""

import numpy as np
import pytest
import torch
from common import VARIANTS
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Diagonal, Full, RankOne, quadratic_gradients, trajectory

from trainopt import DiagonalTO, Exponential, FullTO, InverseTime, RankOneTO, rules

PAIRS = [
    (FullTO, Full, {"scope": "group"}),
    (DiagonalTO, Diagonal, {}),
    (RankOneTO, RankOne, {"scope": "group"}),
]
STEPS = 100


def run_torch(cls, shapes, w0, gradients, **settings):
    sizes = [int(np.prod(shape)) for shape in shapes]
    pieces = np.split(w0, np.cumsum(sizes)[:-1])
    params = [
        torch.nn.Parameter(torch.tensor(p.reshape(s))) for p, s in zip(pieces, shapes, strict=True)
    ]
    optimizer = cls(params, **settings)
    path = []
    for gradient in gradients:
        w = np.concatenate([p.detach().numpy().reshape(-1) for p in params])
        for p, g in zip(params, np.split(gradient(w), np.cumsum(sizes)[:-1]), strict=True):
            p.grad = torch.tensor(g).reshape(p.shape)
        optimizer.step()
        path.append(np.concatenate([p.detach().numpy().reshape(-1) for p in params]))
    return np.array(path)


shapes = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=3)


@pytest.mark.parametrize(("cls", "model", "extra"), PAIRS, ids=["full", "diagonal", "rankone"])
@given(shapes=shapes, seed=st.integers(0, 2**20), foreach=st.booleans())
@settings(max_examples=15, deadline=None)
def test_hundred_steps(cls, model, extra, shapes, seed, foreach):
    rng = np.random.default_rng(seed)
    d = sum(int(np.prod(shape)) for shape in shapes)
    gradients = quadratic_gradients(rng, d, STEPS)
    w0 = rng.normal(size=d)
    ours = run_torch(
        cls,
        shapes,
        w0,
        gradients,
        lr=0.05,
        alpha=0.02 / d,
        beta=0.4,
        weight_decay=0.01,
        foreach=foreach,
        **extra,
    )
    theirs = trajectory(
        model(d),
        w0,
        gradients,
        lr=lambda t: 0.05,
        alpha=lambda t: 0.02 / d,
        beta=lambda t: 0.4,
        weight_decay=0.01,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("cls", "model", "extra"), PAIRS, ids=["full", "diagonal", "rankone"])
def test_schedules(cls, model, extra):
    rng = np.random.default_rng(3)
    gradients = quadratic_gradients(rng, 6, STEPS)
    w0 = rng.normal(size=6)
    ours = run_torch(
        cls,
        [(2, 3)],
        w0,
        gradients,
        lr=InverseTime(2.0, 20.0),
        alpha=Exponential(0.01, 0.5, every=10),
        beta=torch.tensor(0.3, dtype=torch.float64),
        **extra,
    )
    theirs = trajectory(
        model(6),
        w0,
        gradients,
        lr=lambda t: 2 / (t + 20),
        alpha=lambda t: 0.01 * 0.5 ** (t // 10),
        beta=lambda t: 0.3,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("cls", VARIANTS)
def test_scope_tensor_is_one_model_per_tensor(cls):
    rng = np.random.default_rng(5)
    extra = {} if cls is DiagonalTO else {"scope": "tensor"}
    model = {FullTO: Full, DiagonalTO: Diagonal, RankOneTO: RankOne}[cls]
    gradients = [quadratic_gradients(rng, d, STEPS) for d in (3, 4)]
    starts = [rng.normal(size=d) for d in (3, 4)]
    rates = {"lr": lambda t: 0.1, "alpha": lambda t: 0.01, "beta": lambda t: 0.5}
    expected = [
        trajectory(model(len(w)), w, g, **rates)[-1] for w, g in zip(starts, gradients, strict=True)
    ]
    params = [torch.nn.Parameter(torch.tensor(w)) for w in starts]
    optimizer = cls(params, lr=0.1, alpha=0.01, beta=0.5, **extra)
    for t in range(STEPS):
        for p, g in zip(params, gradients, strict=True):
            p.grad = torch.tensor(g[t](p.detach().numpy()))
        optimizer.step()
    for p, w in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-9, atol=1e-10)


def random_vectors(d, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(d, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_estimate_is_the_updated_model():
    w, g, a, c, b = random_vectors(6, 5)
    A = torch.outer(a, c)
    rates = {"alpha": 0.1, "beta": 0.3}
    learned = rules.full(w, g, A, b, **rates)
    torch.testing.assert_close(learned.estimate, learned.variables[0] @ w + learned.variables[1])
    factor = 1 - 0.3 - 0.1 * w @ w
    torch.testing.assert_close(g - learned.estimate, factor * learned.residual)
    learned = rules.diagonal(w, g, a, b, **rates)
    a_new, b_new = learned.variables
    torch.testing.assert_close(learned.estimate, a_new * w + b_new)
    learned = rules.rank_one(w, g, a, c, b, **rates)
    a_new, c_new, b_new = learned.variables
    torch.testing.assert_close(learned.estimate, torch.outer(a_new, c_new) @ w + b_new)


def test_rank_one_is_the_gradient_of_the_approximation_loss():
    w, g, a, c, b = (x.requires_grad_() for x in random_vectors(5, 5))
    loss = 0.5 * (g - torch.outer(a, c) @ w - b).square().sum()
    da, dc, db = torch.autograd.grad(loss, (a, c, b))
    new = rules.rank_one(w, g, a, c, b, alpha=0.1, beta=0.3).variables
    for x, dx, rate, y in zip((a, c, b), (da, dc, db), (0.1, 0.1, 0.3), new, strict=True):
        torch.testing.assert_close(y, x - rate * dx)


def test_rank_one_needs_c():
    w, g = random_vectors(4, 2)
    zero = torch.zeros(4, dtype=torch.float64)
    a, c, _ = rules.rank_one(w, g, zero, zero, zero, alpha=0.5, beta=0.5).variables
    assert not a.any()
    assert not c.any()


@given(seed=st.integers(0, 2**20))
@settings(max_examples=20, deadline=None)
def test_full_is_equivariant_under_orthogonal_maps(seed):
    rng = np.random.default_rng(seed)
    q = torch.tensor(np.linalg.qr(rng.normal(size=(5, 5)))[0])
    w, g, b = random_vectors(5, 3, seed)
    A = torch.outer(b, w)
    one = rules.full(w, g, A, b, alpha=0.1, beta=0.3)
    two = rules.full(q @ w, q @ g, q @ A @ q.T, q @ b, alpha=0.1, beta=0.3)
    torch.testing.assert_close(q @ one.estimate, two.estimate)
    torch.testing.assert_close(q @ one.variables[0] @ q.T, two.variables[0])


@pytest.mark.parametrize("cls", VARIANTS)
def test_permuting_the_coordinates_permutes_the_run(cls):
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    w0, *gradients = random_vectors(7, 31)
    ends = []
    for index in (torch.arange(7), order):
        p = torch.nn.Parameter(w0[index].clone())
        optimizer = cls([p], lr=0.1, alpha=0.01, beta=0.5)
        for g in gradients:
            p.grad = g[index].clone()
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(ends[0][order], ends[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["full", "diagonal", "rank_one"])
def test_rules_run_under_vmap(rule):
    function = getattr(rules, rule)
    count = {"full": 4, "diagonal": 4, "rank_one": 5}[rule]
    batch = [torch.stack(random_vectors(4, 3, seed)) for seed in range(count)]
    if rule == "full":
        batch[2] = torch.stack([torch.outer(x, x) for x in batch[2]])
    together = torch.func.vmap(lambda *xs: function(*xs, alpha=0.1, beta=0.2).estimate)(*batch)
    for i in range(3):
        alone = function(*(x[i] for x in batch), alpha=0.1, beta=0.2).estimate
        torch.testing.assert_close(together[i], alone)
