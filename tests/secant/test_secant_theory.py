"""What the mathematics of SecantTO promises."""

import math
from itertools import chain

import pytest
import torch
from secant_common import Problem, new, take, train

from trainopt.secant.model import Model


def make_model(shares, d, pairs, dtype=torch.float64):
    vectors = torch.zeros(2 * len(shares) + 2 * pairs, d, dtype=dtype)
    return Model(shares, pairs, vectors, scale=0.5, lr=0.1)


def curved(d, seed):
    """A positive definite matrix, and its eigenvectors as columns."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    values = torch.rand(d, generator=generator, dtype=torch.float64) * 3 + 0.1
    return q @ torch.diag(values) @ q.T, q


def hessian_of(model, chunk):
    """B_k of the model as a matrix."""
    p = model.pairs.vectors
    compact = model.pairs.matrices(model.delta)
    n = torch.stack([compact.dot(chunk, e) for e in torch.eye(len(p), dtype=p.dtype)])
    return model.delta * (torch.eye(p.shape[1], dtype=p.dtype) - p.T @ n @ p)


def test_the_estimate_is_the_full_gradient_once_every_hessian_is_known():
    """After steps along all eigenvectors of H_k, BFGS has B_k = H_k, whatever other chunks did."""
    d, shares = 4, (0.3, 0.7)
    known = [curved(d, seed) for seed in (1, 2)]
    centre = [torch.arange(4.0).double(), torch.tensor([1.0, -1, 0, 2]).double()]
    model = make_model(shares, d, pairs=2 * d)
    points = [torch.zeros(d, dtype=torch.float64) for _ in shares]
    for step in range(d + 1):
        for k, (h, q) in enumerate(known):
            if step:
                points[k] = points[k] + (step + k + 1) * q[:, step - 1]
            model.visit(k, points[k], h @ (points[k] - centre[k]))
    for k, (h, _) in enumerate(known):
        torch.testing.assert_close(hessian_of(model, k), h)
    w = torch.tensor([3.0, -2, 5, 1]).double()
    full = sum(p * h @ (w - c) for p, (h, _), c in zip(shares, known, centre, strict=True))
    a = sum(p * h for p, (h, _) in zip(shares, known, strict=True))
    here = model.at(w, 1)
    torch.testing.assert_close(here.gradient, full)
    torch.testing.assert_close(here.step, -torch.linalg.solve(a, full))


def test_the_secant_equation_holds_after_every_push():
    """B_k s = y for chunk k's newest pair, and the residual of a chunk that is seen again is 0."""
    d, shares = 5, (0.2, 0.3, 0.5)
    generator = torch.Generator().manual_seed(0)
    model = make_model(shares, d, pairs=4)
    hessians = [curved(d, seed)[0] for seed in range(3)]
    seen = {}
    for visit in range(20):
        k = visit % 3
        w = torch.randn(d, generator=generator, dtype=torch.float64)
        g = hessians[k] @ w
        if model.visit(k, w, g):
            s, y = w - seen[k][0], g - seen[k][1]
            torch.testing.assert_close(hessian_of(model, k) @ s, y)
            torch.testing.assert_close(
                model.at(seen[k][0], k).gradient, estimate(model, seen[k][0])
            )
        seen[k] = w, g
        again = model.visit(k, w, g)
        if again:
            assert again.surprise.residual() == 0


def test_the_secant_equation_of_all_chunks_holds_for_each():
    """A pair of a whole pass is taken last by every B_k, after the chunk's own older ones."""
    d, shares = 5, (0.2, 0.3, 0.5)
    generator = torch.Generator().manual_seed(0)
    model = make_model(shares, d, pairs=8)
    for visit in range(9):
        w = torch.randn(d, generator=generator, dtype=torch.float64)
        model.visit(visit % 3, w, curved(d, visit % 3)[0] @ w)
    s = torch.randn(d, generator=generator, dtype=torch.float64)
    y = curved(d, 7)[0] @ s
    model.push_all(s, y)
    for k in range(3):
        torch.testing.assert_close(hessian_of(model, k) @ s, y)


def estimate(model, w):
    """Σ p_k [c_k + B_k (w − u_k)] with B_k as matrices."""
    terms = [
        model.shares[k] * (model.gradients[k] + hessian_of(model, k) @ (w - model.points[k]))
        for k in range(len(model.shares))
    ]
    return sum(terms)


def test_what_a_chunk_says_about_the_model():
    """‖e‖, and sᵀB_k s of the loss that the model foretells, against matrices."""
    d = 5
    model = make_model((0.4, 0.6), d, pairs=3)
    generator = torch.Generator().manual_seed(1)
    hessians = [curved(d, seed)[0] for seed in range(2)]
    for visit in range(12):
        k = visit % 2
        w = torch.randn(d, generator=generator, dtype=torch.float64)
        s, c = w - model.points[k], model.gradients[k].clone()
        b = hessian_of(model, k)
        known = model.visit(k, w, hessians[k] @ w)
        if known:
            residual = torch.linalg.vector_norm(hessians[k] @ w - c - b @ s)
            assert known.surprise.residual() == pytest.approx(residual.item())
            assert known.surprise.curvature() == pytest.approx((s @ b @ s).item())


def test_points_far_from_zero_do_not_cost_precision():
    """Only differences of points are in Ĝ: near w = 1000, float32 knows it as well as near 0."""
    d, shares = 6, (0.5, 0.5)
    generator = torch.Generator().manual_seed(0)
    hessians = [curved(d, seed)[0] for seed in range(2)]
    models = [make_model(shares, d, pairs=4, dtype=t) for t in (torch.float64, torch.float32)]
    for visit in range(14):
        k = visit % 2
        w = 1000 + torch.randint(-64, 64, (d,), generator=generator).double() / 64
        for model in models:
            dtype = model.points.dtype
            model.visit(k, w.to(dtype), (hessians[k] @ (w - 1000)).to(dtype))
    exact, rounded = (model.at(w.to(model.points.dtype), k) for model in models)
    torch.testing.assert_close(rounded.gradient.double(), exact.gradient, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rounded.step.double(), exact.step, rtol=1e-4, atol=1e-5)


def test_pairs_without_curvature_are_not_taken():
    model = make_model((1.0,), 3, pairs=4)
    zero, one = torch.zeros(3).double(), torch.eye(3).double()[0]
    model.visit(0, zero, zero)
    model.visit(0, one, -one)  # negative
    model.visit(0, one + 1, -one)  # none
    assert model.pairs.pushes == 0
    model.visit(0, one + 2, one - 1)
    assert model.pairs.pushes == 0
    model.visit(0, one + one + 2, one)
    assert model.pairs.pushes == 1


@pytest.mark.parametrize(("chunks", "passes"), [(1, 20), (3, 20), (6, 14)])
def test_a_quadratic_is_solved_to_machine_precision(chunks, passes):
    problem = Problem("ridge", n=90, d=6)
    w, sampler, optimizer = new(problem, chunks=chunks)
    history = train(problem, w, sampler, optimizer, passes)
    best = problem.optimum()
    assert history[-1] - best < 1e-15
    assert history[3] - best > 1e-5


def test_the_order_of_rows_within_a_chunk_makes_no_difference_in_the_secant_phase():
    """From one state: batches of any order, and of any size, give the same path to rounding."""
    problem = Problem("logistic")
    w, sampler, optimizer = new(problem, batch=5, chunks=3)
    train(problem, w, sampler, optimizer, 3)
    paths = []
    for shuffle in (False, True):
        other, _, copy = new(problem, batch=5, chunks=3)
        other.data.copy_(w.data)
        copy.load_state_dict(optimizer.state_dict())
        for _ in range(4):
            for chunk in range(3):
                rows = torch.as_tensor(list(chain(*list(sampler)[6 * chunk : 6 * chunk + 6])))
                rows = rows[torch.randperm(30)] if shuffle else rows.sort().values
                for batch in rows.split(5):
                    take(problem, other, copy, batch)
        paths.append(other.detach().clone())
    torch.testing.assert_close(*paths, rtol=1e-6, atol=1e-9)


def test_the_scale_of_the_objective_makes_no_difference():
    """1024 F with lr / 1024 takes the same path as F."""
    problem = Problem("logistic")
    paths = []
    for factor in (1.0, 1024.0):
        w, sampler, optimizer = new(problem, lr=0.5 / factor)
        for _ in range(8):
            for rows in sampler:
                optimizer.zero_grad()
                (factor * problem.loss(w, rows)).backward()
                optimizer.step()
        paths.append(w.detach())
    torch.testing.assert_close(*paths, rtol=1e-12, atol=0)


def test_a_chunk_with_fewer_rows_counts_for_less():
    """91 rows in batches of 5: the last batch has one row, and still F* is found."""
    problem = Problem("ridge", n=91)
    w, sampler, optimizer = new(problem)
    assert sampler.plan.rows[-1] == 1
    assert math.fsum(sampler.plan.shares) == pytest.approx(1)
    history = train(problem, w, sampler, optimizer, 14)
    assert history[-1] - problem.optimum() < 1e-14
