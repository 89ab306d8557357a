"""`on_instability`: what isn't taken leaves no trace, and what is taken is the step without it."""

import copy
import math
import pickle
import warnings
from contextlib import suppress

import pytest
import torch
from common import IDS, SETTINGS, assert_same, fill_grads, make_params, state_of

from trainopt import (
    TO,
    Centred,
    Diagonal,
    DiagonalTO,
    Estimated,
    Estimator,
    FullTO,
    Gradient,
    InstabilityError,
    Kronecker,
    LowRank,
    Normalised,
    RankOneTO,
    SecantTO,
)
from trainopt.secant import Plan

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]
BAD = [math.nan, math.inf, -math.inf]
NOT_TAKEN = "the step was not taken"

all_settings = pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)


def spoil(params, value):
    with torch.no_grad():
        params[0].grad.view(-1)[3] = value


def everything(optimizer, params):
    """Weights and all that a state dict holds, as a list of tensors and a rest."""
    kept = state_of(optimizer)
    tensors = [x for state in kept["state"].values() for x in state.values()]
    clocks = [group["step"] for group in kept["param_groups"]]
    return [p.detach().clone() for p in params] + tensors + clocks


@all_settings
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("action", ["warn", "raise", "skip", "reset"])
def test_a_run_that_goes_well_is_the_one_without_a_guard(cls, extra, dtype, action):
    runs = []
    for guard in ({}, {"on_instability": action}):
        params = make_params(dtype)
        optimizer = cls(params, lr=0.05, alpha=0.02, beta=0.7, **extra, **guard)
        for t in range(30):
            fill_grads(params, t)
            optimizer.step()
        runs.append(everything(optimizer, params))
    assert_same(*runs)
    assert optimizer.guard.events == {}


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("number", [0, -1])
def test_a_bad_number_is_found_in_tensors_of_kernels_and_of_plain_torch(place, number):
    """Real, complex, of two dtypes, in two groups: kernels take some, plain torch the others."""
    dtypes = (torch.float32, torch.complex64, torch.bfloat16, torch.float32, torch.float32)
    params = [torch.nn.Parameter(torch.ones(40, 1000, dtype=dtype)) for dtype in dtypes]
    groups = [
        {"params": params[:3]},
        {"params": params[3:4], "fused": False},
        {"params": params[4]},
    ]
    optimizer = DiagonalTO(groups, lr=0.1, beta=0.3, on_instability="raise")
    for p in params:
        p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    before = everything(optimizer, params)
    params[place].grad.view(-1)[number] = math.nan
    with pytest.raises(InstabilityError, match="The gradient has the norm nan"):
        optimizer.step()
    assert_same(everything(optimizer, params), before)


@all_settings
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", BAD)
def test_a_skipped_step_is_as_if_it_had_not_been(cls, extra, dtype, bad):
    runs = []
    for spoilt in (set(), {0, 4, 11, 12}):
        params = make_params(dtype)
        optimizer = cls(params, lr=0.05, alpha=0.02, beta=0.7, **extra, on_instability="skip")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            t = 0
            for step in range(20 + len(spoilt)):
                fill_grads(params, t)
                if step in spoilt:
                    before = everything(optimizer, params)
                    spoil(params, bad)
                    optimizer.step()
                    assert_same(everything(optimizer, params), before)
                    with pytest.raises(RuntimeError, match="no residual yet"):
                        optimizer.residual_norm()
                else:
                    optimizer.step()
                    t += 1
        runs.append(everything(optimizer, params))
        assert optimizer.guard.events == ({"not finite": len(spoilt)} if spoilt else {})
        assert len(seen) == bool(spoilt)
        assert all(w.filename == __file__ for w in seen)
    assert_same(*runs)


@all_settings
def test_raise_changes_nothing_and_the_run_may_go_on(cls, extra):
    params = make_params()
    optimizer = cls(params, lr=0.05, **extra, on_instability="raise")
    for t in range(3):
        fill_grads(params, t)
        optimizer.step()
    before = everything(optimizer, params)
    spoil(params, math.nan)
    with pytest.raises(InstabilityError, match=r"norm nan.*clip gradients.*step was not taken"):
        optimizer.step()
    assert_same(everything(optimizer, params), before)
    fill_grads(params, 3)
    optimizer.step()
    assert float(optimizer.param_groups[0]["step"]) == 4


@all_settings
def test_reset_keeps_weights_and_clock_and_begins_the_variables_anew(cls, extra):
    params = make_params()
    optimizer = cls(params, lr=0.05, alpha=0.02, beta=0.7, **extra, on_instability="reset")
    for t in range(8):
        fill_grads(params, t)
        optimizer.step()
    weights = [p.detach().clone() for p in params]
    spoil(params, math.inf)
    with pytest.warns(UserWarning, match="A and b begin anew"):
        optimizer.step()
    assert_same(params, weights)
    assert float(optimizer.param_groups[0]["step"]) == 8
    fresh_params = [torch.nn.Parameter(w.clone()) for w in weights]
    fresh = cls(fresh_params, lr=0.05, alpha=0.02, beta=0.7, **extra)
    for t in range(8, 12):
        for own, its in ((params, optimizer), (fresh_params, fresh)):
            fill_grads(own, t)
            its.step()
    assert_same(params, fresh_params)
    assert_same(
        [x for s in optimizer.state.values() for x in s.values()],
        [x for s in fresh.state.values() for x in s.values()],
    )


def test_warn_takes_a_growing_step_but_none_that_is_not_finite():
    params = make_params()
    optimizer = DiagonalTO(params, lr=1e-3, on_instability="warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for t in range(12):
            fill_grads(params, t, scale=1e4 if t in (7, 9) else 1.0)
            if t == 8:
                spoil(params, math.nan)
            before = everything(optimizer, params)
            optimizer.step()
            same = all(map(torch.equal, everything(optimizer, params), before))
            assert same == (t == 8)
    assert optimizer.guard.events["growth"] >= 2
    assert [str(w.message).split()[1] for w in seen] == ["residual", "gradient"]


# A residual that is known: w = 10 stays (lr 0), g = 1, β = 0, so e_t = (1 − 100 α)^t ------------


def exploding(action, alpha, **extra):
    p = torch.nn.Parameter(torch.tensor([10.0], dtype=torch.float64))
    optimizer = FullTO([p], lr=1e-300, alpha=alpha, beta=0.0, on_instability=action, **extra)
    p.grad = torch.ones_like(p)
    return p, optimizer


def test_growth_is_seen_at_100_times_the_usual_residual():
    """|e_t| = 4^t, and the mean of log|e| over the t steps before is log 4 · (t − 1)/2.

    So e_t is 4^((t + 1)/2) times its usual size: 64 at t = 5, and 128 at t = 6.
    """
    p, optimizer = exploding("raise", 0.05)
    for _ in range(6):
        optimizer.step()
    A = 0.0
    for _ in range(6):
        A += 0.05 * (1 - 10 * A) * 10
    assert optimizer.state[p]["A"].item() == pytest.approx(A, rel=1e-12)
    before = everything(optimizer, [p])
    with pytest.raises(InstabilityError, match=r"= 4\.1e\+03 has grown to 128 times its usual 32:"):
        optimizer.step()
    assert_same(everything(optimizer, [p]), before)


def test_one_large_gradient_is_skipped_exactly():
    runs = []
    for outlier in (False, True):
        params = make_params()
        optimizer = RankOneTO(params, lr=0.05, on_instability="skip")
        for t in range(20):
            if outlier and t == 13:
                fill_grads(params, 99, scale=1e6)
                with pytest.warns(UserWarning, match="has grown to"):
                    optimizer.step()
            fill_grads(params, t)
            optimizer.step()
        runs.append(everything(optimizer, params))
    assert_same(*runs)


def test_a_step_that_overflows_is_taken_back():
    """e is finite, and A, b and w are; the step would leave w = −10³⁶ whose square isn't."""
    p = torch.nn.Parameter(torch.tensor([1e10, 1.0]))
    optimizer = DiagonalTO([p], lr=1.0, alpha=1e-21, beta=0.5, on_instability="raise")
    p.grad = torch.tensor([1e18, 1.0])
    optimizer.param_groups[0]["lr"] = 1e18
    with pytest.raises(InstabilityError, match="overflow"):
        optimizer.step()
    assert p.tolist() == [1e10, 1.0]
    assert not optimizer.state[p]


def test_variables_that_overflow_in_doubt_are_taken_back():
    """The residual is a number, and α e w isn't."""
    p = torch.nn.Parameter(torch.full((3,), 1e15))
    optimizer = DiagonalTO([p], lr=1e-30, alpha=1e10, beta=0.3, on_instability="warn")
    for size in (0.0, 1e18):
        p.grad = torch.full((3,), size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.step()
    assert optimizer.guard.events["not finite"] == 1
    assert optimizer.state[p]["a"].tolist() == [0.0, 0.0, 0.0]


def test_weights_that_leap_beyond_all_numbers_are_an_error_at_once():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = DiagonalTO([p], lr=1e-3, beta=0.3, on_instability="skip")
    for _ in range(10):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 1e30  # nothing but the size of the step tells
    with pytest.raises(InstabilityError, match=r"not foreseen.*load a checkpoint"):
        optimizer.step()


def test_the_step_size_condition_is_asked_before_the_first_step():
    """|1 − β − α‖w‖²| = |1 − 0 − 2·100| = 199, more than what is allowed in all, 100."""
    p, optimizer = exploding("raise", 2.0)
    with pytest.raises(InstabilityError, match=r"it is 199 at alpha=2 .*Σα·D² is 2e\+02, of 1"):
        optimizer.step()
    assert not optimizer.state[p]
    assert optimizer.guard.budget == pytest.approx(200)


@pytest.mark.parametrize(("alpha", "violated"), [(0.019, False), (0.0205, True)])
def test_a_mild_violation_uses_the_budget_up(alpha, violated):
    """|1 − 100 α| = 0.9, or 1.05, of which log 100 / log 1.05 = 94.4 steps use 100 up."""
    _, optimizer = exploding("raise", alpha)
    steps = 0
    try:
        for steps in range(1, 301):  # noqa: B007
            optimizer.step()
    except InstabilityError as error:
        assert "step-size condition" in str(error)  # noqa: PT017
    assert steps == (101 if violated else 300)
    # Proposition 3.3: Σα of the steps that a look has counted, times 10².
    assert optimizer.guard.budget == pytest.approx(100 * alpha * (101 if violated else 201))


@pytest.mark.parametrize("action", ["skip", "reset"])
def test_it_gives_up_after_20_steps_in_a_row(action):
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.1, on_instability=action)
    fill_grads(params, 0)
    optimizer.step()
    weights = [p.detach().clone() for p in params]
    spoil(params, math.nan)
    with pytest.warns(UserWarning, match=NOT_TAKEN):
        optimizer.step()
    for _ in range(18):
        optimizer.step()
    with pytest.raises(InstabilityError, match="20 steps in a row"):
        optimizer.step()
    assert_same(params, weights)


def test_steps_that_are_taken_begin_the_count_anew():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.01, on_instability="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for t in range(40):
            fill_grads(params, t)
            if t % 2:
                spoil(params, math.nan)
            optimizer.step()
    assert optimizer.guard.events == {"not finite": 20}


# Who else steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Diagonal(), Kronecker()], ids=lambda f: type(f).__name__)
def test_other_forms_rules_and_readings(form):
    runs = []
    for spoilt in (False, True):
        params = make_params()
        estimator = Estimator(params, form, Normalised(), reads=Centred(), on_instability="skip")
        optimizer = TO(estimator, lr=0.05)
        assert optimizer.guard is estimator.guard
        for t in range(10):
            fill_grads(params, t)
            optimizer.step()
            if spoilt and t == 6:
                spoil(params, math.nan)
                with pytest.warns(UserWarning, match=NOT_TAKEN):
                    optimizer.step()
        runs.append(everything(optimizer, params))
    assert_same(*runs)


@pytest.mark.parametrize("form", [LowRank(2), Kronecker()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_weights_and_state_of_two_dtypes(form, dtypes):
    params = make_params(dtypes[0])
    options = {"state_dtype": dtypes[1], "on_instability": "raise"}
    optimizer = TO(Estimator(params, form, Gradient(0.01, 0.3), **options), lr=0.01)
    for t in range(3):
        fill_grads(params, t)
        optimizer.step()
    assert optimizer.guard.events == {}


def test_estimated_takes_neither_step():
    runs = []
    for spoilt in (False, True):
        params = make_params()
        estimator = Estimator(params, Diagonal(), on_instability="skip")
        optimizer = Estimated(torch.optim.AdamW(params, lr=0.1), estimator)
        for t in range(10):
            fill_grads(params, t)
            optimizer.step()
            if spoilt and t == 6:
                spoil(params, math.nan)
                with pytest.warns(UserWarning, match=NOT_TAKEN) as seen:
                    assert optimizer.step(lambda: 3.0) == 3.0
                assert seen[0].filename == __file__
        runs.append(
            [p.detach().clone() for p in params]
            + [s["step"] for s in optimizer.state.values()]
            + [estimator.param_groups[0]["step"]]
        )
    assert_same(*runs)


@pytest.mark.parametrize(
    ("inner", "dtype", "lr"),
    [
        (inner, dtype, lr)
        for inner in (torch.optim.SGD, torch.optim.Adam)
        for dtype in (torch.float32, torch.bfloat16)
        for lr in (1e3, 1e14, 1e20)
    ]
    + [(torch.optim.Adam, torch.float16, 1e3)],  # a step of SGD would overflow by itself
)
def test_weights_that_another_optimizer_moves_far_stay_finite(inner, dtype, lr):
    """Nothing else tells: the gradients are as ever, and the estimator has no lr."""
    generator = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(10, dtype=dtype))
    estimator = Estimator([p], Diagonal(), Gradient(0.01, 0.3), on_instability="skip")
    inner = inner([p], lr=1e-3)
    optimizer = Estimated(inner, estimator)
    with warnings.catch_warnings(), suppress(InstabilityError):
        warnings.simplefilter("ignore")
        for t in range(40):
            inner.param_groups[0]["lr"] = lr if t >= 10 else 1e-3
            p.grad = 1 + 0.1 * torch.randn(10, generator=generator).to(dtype)
            optimizer.step()
    assert all(x.isfinite().all() for x in everything(estimator, [p]))


def test_learn_says_whether_it_learned():
    params = make_params()
    estimator = Estimator(params, Diagonal(), on_instability="skip")
    fill_grads(params, 0)
    assert estimator.learn() is True
    spoil(params, math.nan)
    with pytest.warns(UserWarning, match=NOT_TAKEN):
        assert estimator.learn() is False


def test_copies_and_loaded_states_are_guarded():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.1, on_instability="raise")
    fill_grads(params, 0)
    optimizer.step()
    others = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    loaded = DiagonalTO(make_params(), lr=0.1, on_instability="raise")
    loaded.load_state_dict(optimizer.state_dict())
    for other in (*others, loaded):
        own = other.param_groups[0]["params"]
        fill_grads(own, 1)
        other.step()
        spoil(own, math.nan)
        with pytest.raises(InstabilityError):
            other.step()


def test_a_state_dict_of_a_guarded_run_is_that_of_any():
    kept = []
    for action in (None, "skip"):
        params = make_params()
        optimizer = RankOneTO(params, lr=0.1, on_instability=action)
        fill_grads(params, 0)
        optimizer.step()
        kept.append(
            {k: v for k, v in optimizer.state_dict()["param_groups"][0].items() if k != "step"}
        )
    assert kept[0] == kept[1]


def test_no_gradient_at_all_is_no_step():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.1, on_instability="raise")
    optimizer.step()
    assert not optimizer.state


def test_bad_gradients_and_settings_get_their_own_sentence():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.1, on_instability="skip")
    params[0].grad = torch.zeros(4, 3, dtype=torch.float64).to_sparse()
    with pytest.raises(TypeError, match="sparse"):
        optimizer.step()
    with pytest.raises(ValueError, match="on_instability='stop' is not known: give None, 'warn'"):
        DiagonalTO(params, lr=0.1, on_instability="stop")
    with pytest.raises(ValueError, match="on_instability='stop' is not known"):
        SecantTO(params, Plan((1, 1), (1, 2)), on_instability="stop")
    for other in ("capturable", "differentiable"):
        with pytest.raises(ValueError, match=f"on_instability='skip' excludes {other}=True"):
            DiagonalTO(params, lr=0.1, on_instability="skip", **{other: True})


def test_a_compiled_step_is_guarded():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.1, on_instability="skip")
    step = torch.compile(optimizer.step, backend="eager")
    for t in range(3):
        fill_grads(params, t)
        step()
    before = everything(optimizer, params)
    spoil(params, math.nan)
    with pytest.warns(UserWarning, match="not taken"):
        step()
    assert_same(everything(optimizer, params), before)


# SecantTO: its own safeguards act, and now they say so -------------------------------------------


def secant(action, spoilt=(), steps=40, scale=1.0):
    """A run on a quadratic, the same gradients in the same chunk of each pass."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = SecantTO([p], Plan((1, 1, 1, 1), (2, 4)), lr=0.1, on_instability=action)
    curvature = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    where = []
    for step in range(steps):
        p.grad = curvature * p.detach() + 0.1 * ((step % 4) - 1.5)
        if step in spoilt:
            p.grad = p.grad * spoilt[step]
        optimizer.step()
        where.append(p.detach().clone())
    return where, optimizer


def test_secant_raises_before_anything_changes():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SecantTO([p], Plan((1, 1), (1, 2)), on_instability="raise")
    p.grad = torch.full_like(p, math.nan)
    with pytest.raises(InstabilityError, match="step was not taken"):
        optimizer.step()
    assert optimizer.steps == 0
    assert p.tolist() == [1, 1, 1]


def test_secant_skips_a_step_of_the_base_phase_and_the_plan_goes_on():
    with pytest.warns(UserWarning, match="nor is its chunk used"):
        where, optimizer = secant("skip", {2: math.nan})
    assert torch.equal(where[2], where[1])
    assert optimizer.steps == 40
    assert float(where[-1].abs().max()) < 0.1


@pytest.mark.parametrize("action", ["warn", "reset"])
@pytest.mark.parametrize(("bad", "name"), [(math.nan, "not finite"), (1e3, "growth")])
def test_secant_says_what_it_does_by_itself(action, bad, name):
    plain, _ = secant(None, {3: bad})
    with pytest.warns(UserWarning, match="base phase begins anew") as seen:
        told, optimizer = secant(action, {3: bad})
    assert len(seen) == 1
    assert optimizer.response.events == {name: 1}
    assert_same(told, plain)
