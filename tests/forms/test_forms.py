"""Each form against the matrix that it stands for, and each step against autograd."""

import pytest
import torch
from common_forms import FORMS, LINEAR, SHAPES, dense_matrix, name, randn, random_variables
from hypothesis import given, settings
from hypothesis import strategies as st

from trainopt import (
    TO,
    Blocks,
    Centred,
    Dense,
    Diagonal,
    DiagonalTO,
    Estimator,
    Gradient,
    Kronecker,
    Left,
    LowRank,
    Normalised,
    RankOne,
    Weights,
    Zero,
    rules,
)
from trainopt.optim.paths import ANY, PATHS

all_forms = pytest.mark.parametrize("form", FORMS, ids=name)
all_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@all_shapes
@all_forms
def test_a_form_starts_at_0_with_variables_of_the_shapes_it_says(form, shape):
    w = randn(*shape)
    start = form.init(w, w.numel())
    assert not dense_matrix(form, start, shape).any()
    assert [tuple(v.shape) for v in start] == [
        tuple(s) for s in form.shapes(w.shape, max(w.numel(), 1))
    ]
    assert len(start) == len(form.variables)
    assert all(v.dtype == w.dtype for v in start)


@all_shapes
@all_forms
def test_the_norm_is_that_of_the_matrix(form, shape):
    w = randn(*shape)
    theta = random_variables(form, w)
    A = dense_matrix(form, theta, shape)
    torch.testing.assert_close(form.norm(w, *theta), A.norm())


# Forms whose `gain` is the largest eigenvalue, and whose `least_gain` is the smallest.
TIGHT = (Dense, Diagonal, RankOne, Zero, Blocks)


def in_the_order_of_blocks(form, gain, shape):
    """Each entry of the residual has the bound of its block: one number for each eigenvalue."""
    return gain.expand(shape).reshape(-1).sort().values


@all_shapes
@all_forms
def test_gains_bound_what_learning_does_to_the_residual(form, shape):
    """The eigenvalues of e ↦ (A' − A) x / α at a small α, by finite differences."""
    x = randn(*shape, seed=5)
    theta = random_variables(form, x)
    zero, small = torch.zeros_like(x), 1e-7
    columns = []
    for e in torch.eye(x.numel(), dtype=x.dtype):
        g = e.reshape(shape) + form.apply(x, *theta)
        learned = rules.learn(form, Gradient(), x, g, *theta, zero, alpha=small, beta=0.0)
        change = form.apply(x, *learned.variables[:-1]) - form.apply(x, *theta)
        columns.append(change.reshape(-1) / small)
    M = torch.stack(columns, 1)
    torch.testing.assert_close(M, M.T, rtol=1e-4, atol=1e-4)
    eigenvalues = torch.linalg.eigvalsh((M + M.T) / 2)
    gain, least = form.gain(x, *theta), form.least_gain(x, *theta)
    room = 1e-4 * (1 + float(eigenvalues.abs().max()))
    assert eigenvalues[-1] <= gain.max() + room
    assert eigenvalues[0] >= least.min() - room
    if type(form) in TIGHT or not shape or (type(form) is Left and len(shape) == 1):
        assert eigenvalues[-1] == pytest.approx(float(gain.max()), abs=room)
        if shape or type(form) not in (RankOne, LowRank, Kronecker):
            assert eigenvalues[0] == pytest.approx(float(least.min()), abs=room)
    if type(form) in (Diagonal, Blocks) or form.variables == ("bands",):
        expected = in_the_order_of_blocks(form, gain, shape)
        torch.testing.assert_close(eigenvalues, expected, rtol=1e-4, atol=1e-4)


def test_the_gain_of_rank_one_is_tight_and_that_of_low_rank_for_one_column():
    x = randn(6)
    theta = random_variables(LowRank(1), x)
    flat = [v.reshape(-1) for v in theta]
    torch.testing.assert_close(LowRank(1).gain(x, *theta), RankOne().gain(x, *flat))


def by_autograd(form, rule, reading, lr, w, gradients, start):
    """Steps by the definition: A as a dense matrix of θ, and autograd on ½‖g − A x − b‖²."""
    theta = [v.clone() for v in start]
    b, mean, path = torch.zeros_like(w), w.clone(), []
    for g in gradients:
        x = w - mean if isinstance(reading, Centred) else w
        variables = [v.clone().requires_grad_() for v in theta]
        bias = b.clone().requires_grad_()
        A = dense_matrix(form, variables, w.shape)
        e = g - (A @ x.reshape(-1)).reshape(w.shape) - bias
        loss = 0.5 * e.square().sum()
        if isinstance(rule, Normalised):
            scaled = e.detach() / (form.gain(x, *theta) + 1e-12)
            product = (scaled.reshape(-1) * (A @ x.reshape(-1))).sum()
            steps = torch.autograd.grad(product, variables) if variables else ()
        else:
            found = torch.autograd.grad(loss, [*variables, bias])
            steps = [-step for step in found[:-1]]
            torch.testing.assert_close(found[-1], -e.detach())
        theta = [v + rule.alpha * step for v, step in zip(theta, steps, strict=True)]
        b = b + rule.beta * e.detach()
        estimate = dense_matrix(form, theta, w.shape) @ x.reshape(-1) + b.reshape(-1)
        mean = mean + 0.25 * (w - mean)
        w = w - lr * estimate.reshape(w.shape)
        path.append(w)
    return path


@pytest.mark.parametrize("reading", [Weights(), Centred(0.25)], ids=name)
@pytest.mark.parametrize("rule", [Gradient(0.03, 0.4), Normalised(0.6, 0.3)], ids=name)
@all_shapes
@all_forms
def test_a_step_is_the_gradient_step_on_the_loss_of_the_model(form, shape, rule, reading):
    w = randn(*shape, seed=3)
    gradients = [randn(*shape, seed=10 + t) for t in range(4)]
    torch.manual_seed(0)
    start = form.init(w, w.numel())
    expected = by_autograd(form, rule, reading, 0.1, w, gradients, start)
    for extra in ({}, {"foreach": False}, {"foreach": True}):
        p = torch.nn.Parameter(w.clone())
        optimizer = TO(Estimator([p], form, rule, reads=reading, **extra), lr=0.1)
        torch.manual_seed(0)
        for g, after in zip(gradients, expected, strict=True):
            p.grad = g.clone()
            optimizer.step()
            torch.testing.assert_close(p.detach(), after, rtol=1e-9, atol=1e-10)
    assert optimizer.memory() == [8 * sum(v.numel() for v in optimizer.state[p].values())]


@pytest.mark.parametrize("rule", [Gradient(0.03, 0.4), Normalised(0.6, 0.3)], ids=name)
@pytest.mark.parametrize("form", [form for form in FORMS if form.rowwise], ids=name)
def test_the_tensors_of_a_group_are_one_vector(form, rule):
    sizes = [(2, 3), (), (0,), (4,), (3, 1)]
    whole = torch.nn.Parameter(randn(14))
    parts = [
        torch.nn.Parameter(x.reshape(size).clone())
        for x, size in zip(whole.detach().split([6, 1, 0, 4, 3]), sizes, strict=True)
    ]
    start = "ones" if isinstance(form, RankOne) else None
    form = RankOne(start) if start else form
    joint = TO(Estimator(parts, form, rule, scope="group"), lr=0.1)
    single = TO(Estimator([whole], form, rule), lr=0.1)
    for t in range(4):
        whole.grad = randn(14, seed=20 + t)
        for p, g in zip(parts, whole.grad.split([6, 1, 0, 4, 3]), strict=True):
            p.grad = g.reshape(p.shape).clone()
        torch.manual_seed(t)
        joint.step()
        if isinstance(form, LowRank) and t == 0:  # the same V, which is drawn piece by piece
            single.learn()
            V = torch.cat([joint.state[p]["V"] for p in parts])
            single.state[whole]["V"].copy_(V)
            for value in (single.state[whole]["U"], single.state[whole]["b"]):
                value.zero_()
            single.param_groups[0]["step"].zero_()
        single.step()
    found = torch.cat([p.detach().reshape(-1) for p in parts])
    torch.testing.assert_close(found, whole.detach(), rtol=1e-10, atol=1e-12)


def test_a_low_rank_A_of_one_column_spans_a_group():
    """(n, 1) is both the shape of U and of a weight: the form says which."""
    params = [torch.nn.Parameter(randn(3, 1)), torch.nn.Parameter(randn(2))]
    optimizer = TO(Estimator(params, LowRank(1), Gradient(0.05, 0.5), scope="group"), lr=0.1)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.step()
    assert optimizer.state[params[1]]["U"].shape == (2, 1)
    assert all(p.isfinite().all() for p in params)


# Zero ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("path", ["plain", "foreach", "compile", "learn"])
def test_zero_is_diagonal_without_learning_to_the_last_bit(path, dtype):
    ends = []
    for zero in (True, False):
        params = [torch.nn.Parameter(randn(*shape).to(dtype)) for shape in [(4, 3), (300,)]]
        options = {"fused": False, "foreach": path == "foreach"}
        if zero:
            estimator = Estimator(params, Zero(), Gradient(0.0, 0.3), **options)
            optimizer = TO(estimator, lr=0.1, weight_decay=0.1)
        else:
            optimizer = DiagonalTO(params, lr=0.1, alpha=0.0, beta=0.3, weight_decay=0.1, **options)
        torch._dynamo.reset()
        step = {"compile": torch.compile(optimizer.step, backend="eager"), "learn": optimizer.learn}
        for t in range(4):
            for i, p in enumerate(params):
                p.grad = randn(*p.shape, seed=t + 7 * i).to(dtype)
            step.get(path, optimizer.step)()
        ends.append([x for p in params for x in (p.detach(), optimizer.state[p]["b"])])
        assert optimizer.memory()[0] == (1 if zero else 2) * sum(
            v.numel() * v.element_size() for v in ends[-1][1::2]
        )
    for x, y in zip(*ends, strict=True):
        assert torch.equal(x, y)


# The fast paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PATHS, ids=lambda key: f"{key[0]}-{key[1].__name__}")
@pytest.mark.parametrize("scope", ["tensor", "group"])
@pytest.mark.parametrize("descends", [True, False], ids=["step", "learn"])
def test_a_fast_path_is_the_general_rule(key, scope, descends):
    """Every entry of the table, as a step takes it, against `rules.learn` on the whole vector."""
    device, form_class, rule_class = key
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    form = form_class()
    if scope == "group" and not form.rowwise:
        pytest.skip(f"{form_class.__name__} has no scope")
    where = "cpu" if device == ANY else device
    rule = rule_class(0.03, 0.4)
    shapes = [(4, 3), (5,), (7,)]
    starts = [randn(*shape, seed=i).to(where) for i, shape in enumerate(shapes)]
    ways = [{"foreach": False}, {"foreach": True}] if device == ANY else [{"fused": True}]
    vectors = [[0, 1, 2]] if scope == "group" else [[0], [1], [2]]
    states = {}
    weights = [w.clone() for w in starts]
    for way in ways:
        scoped = {"scope": scope} if form.rowwise else {}
        params = [torch.nn.Parameter(w.clone()) for w in starts]
        optimizer = TO(Estimator(params, form, rule, keep_estimate=True, **scoped, **way), lr=0.1)
        weights, states = [w.clone() for w in starts], {}
        for t in range(4):
            grads = [randn(*w.shape, seed=10 * t + i).to(where) for i, w in enumerate(weights)]
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            if descends:
                optimizer.step()
            else:
                optimizer.learn()
            squares = 0.0
            for vector in vectors:
                w = torch.cat([weights[i].reshape(-1) for i in vector])
                g = torch.cat([grads[i].reshape(-1) for i in vector])
                state = states.get(vector[0]) or (*form.init(w, w.numel()), torch.zeros_like(w))
                learned = rules.learn(form, rule, w, g, *state, alpha=0.03, beta=0.4)
                states[vector[0]] = learned.variables
                squares += learned.residual.square().sum()
                sizes = [weights[i].numel() for i in vector]
                pieces = learned.estimate.split(sizes)
                bs = learned.variables[-1].split(sizes)
                for i, piece, b in zip(vector, pieces, bs, strict=True):
                    estimate = piece.reshape(shapes[i])
                    if descends:
                        weights[i] = weights[i] - 0.1 * estimate
                    near(optimizer.estimate(params[i]), estimate)
                    near(optimizer.state[params[i]]["b"], b.reshape(shapes[i]))
                    near(params[i].detach(), weights[i])
            near(optimizer.residual_norm(), squares.sqrt())
        for vector in vectors:
            for variable, value in zip(form.variables, states[vector[0]], strict=False):
                found = [optimizer.state[params[i]][variable] for i in vector]
                near(torch.cat([x.reshape(-1) for x in found]), value.reshape(-1))


def near(x, y):
    torch.testing.assert_close(x, y.to(x.dtype), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", [Dense(), Diagonal(), RankOne(), Zero()], ids=name)
def test_a_closed_form_on_plain_tensors(form):
    w, g, b = (randn(6, seed=i) for i in range(3))
    theta = random_variables(form, w)
    rates = {"alpha": 0.07, "beta": 0.3}
    closed = PATHS[ANY, type(form), Gradient](w, g, *theta, b, **rates)
    general = rules.learn(form, Gradient(), w, g, *theta, b, **rates)
    for x, y in zip(closed.variables, general.variables, strict=True):
        near(x, y)
    near(closed.estimate, general.estimate)
    near(closed.residual, general.residual)


# Normalised ----------------------------------------------------------------------------------

sizes = st.sampled_from([0.0, 1e-200, 1e-12, 1e-3, 1.0, 1e3, 1e12, 1e140])


@pytest.mark.parametrize("form", LINEAR, ids=name)
@given(
    scales=st.lists(sizes, min_size=6, max_size=6),
    alpha=st.floats(0, 2, exclude_max=True),
    share=st.floats(0, 1, exclude_max=True),
    theta_scale=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_normalised_learning_never_lets_the_residual_grow(
    form, scales, alpha, share, theta_scale, seed
):
    """Measured at the same weights and gradient, after the update; α + β < 2."""
    beta = share * (2 - alpha)
    w = torch.tensor(scales, dtype=torch.float64).reshape(3, 2) * (1 + randn(3, 2, seed=seed).abs())
    g, b = randn(3, 2, seed=seed + 1), randn(3, 2, seed=seed + 2)
    theta = [theta_scale * v for v in random_variables(form, g, seed)]
    learned = rules.learn(form, Normalised(), w, g, *theta, b, alpha=alpha, beta=beta)
    *new, new_b = learned.variables
    after = g - form.apply(w, *new) - new_b
    # What rounding can do: A w, g and b are summed in float64.
    room = 1e-14 * (form.apply(w.abs(), *[v.abs() for v in theta]).abs() + g.abs() + b.abs())
    assert after.norm() <= learned.residual.norm() * (1 + 1e-9) + 50 * room.norm()


# Settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda ps: Estimator(ps, LowRank(0)), ValueError, "rank=0 is not allowed"),
        (lambda ps: Estimator(ps, LowRank(2.5)), TypeError, "rank=2.5 is a float"),
        (lambda ps: Estimator(ps, Blocks(0)), ValueError, "size=0 is not allowed"),
        (lambda ps: Estimator(ps, Dense(), reads=Centred(0)), ValueError, "rate=0 is not"),
        (lambda ps: Estimator(ps, Dense(), reads=Centred("x")), TypeError, "rate='x' is a str"),
        (lambda ps: Estimator(ps, Dense), TypeError, "give an instance of Form"),
        (lambda ps: Estimator(ps, Dense(), learn=0.1), TypeError, "give an instance of Gradient"),
        (lambda ps: Estimator(ps, Dense(), alpha=0.1), TypeError, "a setting of Gradient: give"),
        (lambda ps: Estimator(ps, Dense(), lr=0.1), TypeError, "Estimator has no setting 'lr'"),
        (lambda ps: DiagonalTO(ps, 0.1, betas=1), TypeError, "DiagonalTO has no setting 'betas'"),
        (lambda ps: Estimator(ps, Kronecker(), scope="group"), ValueError, "Kronecker has none"),
        (
            lambda ps: Estimator([{"params": ps, "scope": "group"}], Left()),
            ValueError,
            "a row per weight, Left has none",
        ),
        (lambda ps: Estimator([{"params": ps, "rank": 0}], LowRank()), ValueError, "rank=0 is not"),
        (lambda ps: TO(DiagonalTO(ps, lr=0.1), lr=0.1), TypeError, "give an Estimator"),
    ],
)
def test_a_setting_that_cannot_work_is_one_sentence(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make([torch.nn.Parameter(randn(4, 3))])


@pytest.mark.parametrize("form", [Dense(), Kronecker(), Left(), Blocks(2**20)], ids=name)
def test_a_form_that_does_not_fit_is_refused_before_anything_is_allocated(form):
    params = [torch.nn.Parameter(torch.empty(2**24, 2**3, device="meta"))]
    params = [torch.nn.Parameter(torch.empty(1).expand(2**24, 2**3))]
    with pytest.raises(MemoryError, match="check_memory=False"):
        Estimator(params, form)
    Estimator(params, form, check_memory=False)


def test_forms_may_differ_between_groups_in_their_settings():
    one, two = (torch.nn.Parameter(randn(6)) for _ in range(2))
    groups = [{"params": [one]}, {"params": [two], "rank": 3, "alpha": 0.0}]
    optimizer = TO(Estimator(groups, LowRank(1), Gradient(0.1, 0.5)), lr=0.1)
    for p in (one, two):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert optimizer.state[one]["U"].shape == (6, 1)
    assert optimizer.state[two]["U"].shape == (6, 3)
    assert not optimizer.state[two]["U"].any()
    with pytest.raises(
        ValueError,
        match="holds what Diagonal by Gradient of Weights has learned, TO learns LowRank",
    ):
        TO(Estimator([one], LowRank()), lr=0.1).load_state_dict(
            DiagonalTO([two], lr=0.1).state_dict()
        )
