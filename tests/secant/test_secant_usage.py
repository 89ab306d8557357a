"""SecantTO has the habits of torch's optimizers."""

import copy
import io
import math
import pickle

import pytest
import torch
from secant_common import Problem, new, take, train

from trainopt import ChunkSampler, SecantTO
from trainopt.secant import Plan


def two_groups(problem, dtype=torch.float64, **settings):
    """The weights of a problem as two parameters of different shapes."""
    params = [
        torch.nn.Parameter(torch.zeros(2, 2, dtype=dtype)),
        torch.nn.Parameter(torch.zeros(problem.d - 4, dtype=dtype)),
    ]
    sampler = ChunkSampler(problem.n, 5, 4)
    groups = [{"params": [params[0]], "lr": 0.1}, {"params": [params[1]], "weight_decay": 1e-2}]
    return params, sampler, SecantTO(groups, sampler, **settings)


def step_all(problem, params, optimizer, rows, loss=False):
    w = torch.cat([p.reshape(-1) for p in params])
    value = problem.data_loss(w, rows)
    optimizer.zero_grad()
    value.backward()
    optimizer.step(loss=value.detach() if loss else None)


def tensors_of(optimizer):
    """Every tensor of the state dict, copied."""
    found = []

    def walk(value):
        if isinstance(value, torch.Tensor):
            found.append(value.clone())
        elif isinstance(value, dict):
            for part in value.values():
                walk(part)
        elif isinstance(value, list | tuple):
            for part in value:
                walk(part)

    walk(optimizer.state_dict())
    return found


def make_adam(params):
    return torch.optim.Adam(params, lr=0.05)


@pytest.mark.parametrize("steps", [0, 7, 50, 61])
@pytest.mark.parametrize("base", [None, make_adam])
@pytest.mark.parametrize("way", ["state dict", "deepcopy", "pickle"])
def test_a_run_goes_on_bit_for_bit(steps, base, way):
    """From the base phase, the check and the secant phase, in the middle of a chunk and not."""
    problem = Problem("logistic")
    params, sampler, _ = two_groups(problem)
    optimizer = SecantTO(params, sampler.plan, base=base and base(params), weight_decay=1e-3)
    batches = [rows for _ in range(6) for rows in sampler]
    for rows in batches[:steps]:
        step_all(problem, params, optimizer, rows, loss=True)
    if way == "state dict":
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        others = [torch.nn.Parameter(p.detach().clone()) for p in params]
        other = SecantTO(others, sampler.plan, base=base and base(others), weight_decay=1e-3)
        other.load_state_dict(torch.load(file, weights_only=True))
    elif way == "deepcopy":
        others, other = copy.deepcopy((params, optimizer))
    else:
        others, other = pickle.loads(pickle.dumps((params, optimizer)))
    assert other.steps == optimizer.steps == steps
    assert other.memory() == optimizer.memory()
    for rows in batches[steps:]:
        step_all(problem, others, other, rows, loss=True)
    straight, _, _ = two_groups(problem)
    optimizer = SecantTO(straight, sampler.plan, base=base and base(straight), weight_decay=1e-3)
    for rows in batches:
        step_all(problem, straight, optimizer, rows, loss=True)
    for p, q in zip(straight, others, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_state_is_at_least_float32(dtype):
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem, dtype=dtype)
    history = train(problem, w, sampler, optimizer, 20)
    wide = torch.promote_types(dtype, torch.float32)
    assert optimizer.state[w]["vectors"].dtype == wide
    assert optimizer.estimate(w).dtype == wide
    gap = {torch.float32: 1e-11, torch.float64: 1e-15, torch.bfloat16: 1e-2}[dtype]
    assert history[-1] - problem.optimum() < gap
    saved = copy.deepcopy(optimizer.state_dict())
    other, _, restored = new(problem, dtype=dtype)
    restored.load_state_dict(saved)
    assert torch.equal(restored.state[other]["vectors"], optimizer.state[w]["vectors"])


def test_complex_parameters_are_pairs_of_reals():
    problem = Problem("ridge", d=6)
    real, sampler, optimizer = new(problem)
    train(problem, real, sampler, optimizer, 4)
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex128))
    sampler = ChunkSampler(problem.n, 5, 4)
    optimizer = SecantTO([w], sampler)
    for _ in range(4):
        for rows in sampler:
            optimizer.zero_grad()
            problem.loss(torch.view_as_real(w).reshape(-1), rows).backward()
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(w.detach()).reshape(-1), real.detach())
    assert optimizer.estimate(w).dtype == torch.complex128


def test_groups_have_their_own_rate_and_decay():
    """weight_decay is the L2 term of the objective: the optimum is that of the whole."""
    problem = Problem("ridge", l2=0.0)
    params, sampler, optimizer = two_groups(problem)
    for p in params:
        p.data.fill_(2.0)
    step_all(problem, params, optimizer, next(iter(sampler)))
    for p, lr, decay in zip(params, (0.1, 0.3), (0.0, 1e-2), strict=True):
        torch.testing.assert_close(p.detach(), 2 - lr * (p.grad + decay * 2))
    params, sampler, optimizer = two_groups(problem)
    for _ in range(20):
        for rows in sampler:
            step_all(problem, params, optimizer, rows)
    w = torch.cat([p.detach().reshape(-1) for p in params])
    decay = torch.tensor([0.0] * 4 + [1e-2] * 2).double()
    torch.testing.assert_close(problem.gradient(w), -decay * w, rtol=1e-6, atol=1e-9)


def test_the_base_phase_is_any_optimizers():
    problem = Problem("logistic")
    w, sampler, _ = new(problem)
    base = torch.optim.AdamW([w], lr=0.02)
    optimizer = SecantTO([w], sampler, base=base)
    alone, _, _ = new(problem)
    adam = torch.optim.AdamW([alone], lr=0.02)
    batches = list(sampler)
    for rows in batches[:-1]:
        take(problem, w, optimizer, rows)
        adam.zero_grad()
        problem.loss(alone, rows).backward()
        adam.step()
        assert torch.equal(w, alone)


def test_a_closure_is_a_step_with_a_loss():
    problem = Problem("logistic")
    w, sampler, optimizer = new(problem)
    other, _, twin = new(problem)
    for _ in range(6):
        for rows in sampler:
            take(problem, w, optimizer, rows, with_loss=True)

            def closure(rows=rows):
                twin.zero_grad()
                loss = problem.loss(other, rows)
                loss.backward()
                return loss

            twin.step(closure)
    assert torch.equal(w, other)


def test_losses_or_gradients_lead_to_the_optimum():
    problem = Problem("logistic")
    for with_loss in (True, False):
        w, sampler, optimizer = new(problem, weight_decay=0.0)
        history = train(problem, w, sampler, optimizer, 20, with_loss=with_loss)
        assert history[-1] - problem.optimum() < 1e-12


def test_step_hooks_and_schedulers_run():
    problem = Problem()
    w, sampler, optimizer = new(problem)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    take(problem, w, optimizer, next(iter(sampler)))
    scheduler.step()
    assert seen == ["before", "after"]
    assert optimizer.param_groups[0]["lr"] == 0.15


def test_memory_is_2k_2m_and_7_vectors_and_some_small_matrices():
    problem = Problem("ridge")
    params, sampler, optimizer = two_groups(problem, pairs=11)
    assert optimizer.memory() == [0, 0]
    step_all(problem, params, optimizer, next(iter(sampler)))
    first, second = optimizer.memory()
    assert second == (2 * 4 + 2 * 11 + 7) * 2 * 8
    small = (22 * 22 + 22 + 5 * 22 + 4 * 11) * 8
    assert first == (2 * 4 + 2 * 11 + 7) * 4 * 8 + small


def test_the_estimate_and_the_residual_are_there_when_they_are_known():
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem, watch=False)
    batches = list(sampler)
    with pytest.raises(KeyError, match="once the base phase"):
        optimizer.estimate(w)
    with pytest.raises(RuntimeError, match="after the first two passes"):
        optimizer.residual_norm()
    for _ in range(10):
        for rows in batches[:-1]:
            take(problem, w, optimizer, rows)
        here = w.detach().clone()
        take(problem, w, optimizer, batches[-1])
    torch.testing.assert_close(optimizer.estimate(w), problem.gradient(here), rtol=0, atol=1e-4)
    assert 0 <= optimizer.residual_norm().item() < 1e-3
    with pytest.raises(KeyError):
        optimizer.estimate(torch.zeros(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 5, 40, 58, 80])
def test_gradients_that_are_not_finite_leave_the_state_finite(bad, step):
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem, watch=False)
    batches = [rows for _ in range(25) for rows in sampler]
    for t, rows in enumerate(batches):
        if t == step:
            w.grad = torch.full_like(w, bad)
            optimizer.step()
            assert torch.isfinite(w).all()
            assert all(torch.isfinite(x).all() for x in tensors_of(optimizer))
        else:
            take(problem, w, optimizer, rows)
    assert problem.loss(w.detach()).item() - problem.optimum() < 1e-10


def test_a_base_phase_that_diverges_begins_again_more_slowly():
    problem = Problem("ridge")
    for make in (None, lambda w: torch.optim.SGD([w], lr=300.0)):
        w, sampler, _ = new(problem)
        base = make and make(w)
        optimizer = SecantTO([w], sampler, lr=300.0, base=base)
        history = train(problem, w, sampler, optimizer, 30)
        assert history[-1] - problem.optimum() < 1e-8
        assert base is None or base.param_groups[0]["lr"] < 300 / 4


def test_a_base_phase_that_ends_far_off_is_taken_back():
    """The last mini-batch of the base phase throws the weights away: they come back, and stay."""
    problem = Problem("ridge")
    for chunks in (1, 4):
        w, sampler, optimizer = new(problem, chunks=chunks)
        train(problem, w, sampler, optimizer, 1)
        for rows in sampler:
            take(problem, w, optimizer, rows)
            if optimizer.steps == 2 * sampler.plan.steps - 1:
                w.data.fill_(1e6)
        history = train(problem, w, sampler, optimizer, 25)
        assert history[-1] - problem.optimum() < 1e-8


def test_parameters_that_change_are_named_and_nothing_is_written():
    problem = Problem("ridge")
    params, sampler, optimizer = two_groups(problem)
    rows = next(iter(sampler))
    step_all(problem, params, optimizer, rows)
    step_all(problem, params, optimizer, rows)
    before = tensors_of(optimizer)
    with pytest.raises(RuntimeError, match="build a new SecantTO for all parameters"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))]})
    removed = optimizer.param_groups[1]["params"].pop()
    with pytest.raises(RuntimeError, match="1 parameters that are not the 2"):
        optimizer.step()
    optimizer.param_groups[1]["params"].append(removed)
    params[0].grad = None
    params[0].data = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"shape \(4,\) had the shape \(2, 2\)"):
        optimizer.step()
    params[0].data = torch.zeros(2, 2, dtype=torch.float64)
    params[0].grad = torch.ones(2, 2, dtype=torch.float64).to_sparse()
    with pytest.raises(TypeError, match="sparse"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(optimizer), strict=True))


def test_weights_that_are_changed_within_a_chunk_are_left_as_they_are():
    """Its gradients belong to two points: the chunk isn't used, and the run recovers."""
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem)
    train(problem, w, sampler, optimizer, 5)
    residual = optimizer.residual_norm()
    first_chunk = sampler.plan.ends[0]
    for i, rows in enumerate(sampler):
        if i == 2:
            w.data.fill_(5.0)
        take(problem, w, optimizer, rows)
        if 2 <= i < first_chunk - 1:
            assert (w == 5).all()
        if i < first_chunk:
            assert optimizer.residual_norm() == residual
    assert optimizer.residual_norm() != residual
    history = train(problem, w, sampler, optimizer, 25)
    assert history[-1] - problem.optimum() < 1e-10


@pytest.mark.parametrize("with_loss", [False, True])
def test_a_pass_that_ends_far_worse_is_taken_back(with_loss):
    """Weights put far away between passes are back after one."""
    problem = Problem("logistic", l2=1e-4)
    w, sampler, optimizer = new(problem, chunks=1)
    before = train(problem, w, sampler, optimizer, 8, with_loss=with_loss)[-1]
    w.data.copy_(torch.linspace(-40, 40, problem.d))
    after = train(problem, w, sampler, optimizer, 1, with_loss=with_loss)[-1]
    assert after == pytest.approx(before, rel=0.05)


def test_a_pass_that_is_worse_by_its_losses_is_not_stepped_from():
    """Losses three times as high for a pass, gradients the same: the next step starts elsewhere."""
    problem = Problem("logistic")
    estimates = []
    for factor in (1.0, 1.05, 3.0):
        w, sampler, optimizer = new(problem, chunks=1)
        train(problem, w, sampler, optimizer, 7, with_loss=True)
        for rows in sampler:
            optimizer.zero_grad()
            loss = problem.loss(w, rows)
            loss.backward()
            optimizer.step(loss=factor * loss.detach())
        estimates.append(optimizer.estimate(w).clone())
    assert torch.equal(estimates[0], estimates[1])  # a little worse is no reason
    assert not torch.allclose(estimates[0], estimates[2])


def test_the_decay_is_in_the_objective_that_losses_are_judged_by():
    """With λ as weight_decay and the loss of the data alone, the path is that of F with λ in it."""
    problem = Problem("logistic", l2=0.3)
    ends = []
    for decay in (0.0, 0.3):
        w, sampler, optimizer = new(problem, weight_decay=decay, lr=1.0)
        for _ in range(8):
            for rows in sampler:
                optimizer.zero_grad()
                loss = problem.data_loss(w, rows) if decay else problem.loss(w, rows)
                loss.backward()
                optimizer.step(loss=loss.detach())
            ends.append(w.detach().clone())
    torch.testing.assert_close(torch.stack(ends[:8]), torch.stack(ends[8:]), rtol=1e-6, atol=1e-9)


def test_a_model_that_fails_brings_the_base_phase_back():
    """The objective becomes 10⁴ times as large: the next pass is SGD's, which always moves."""
    problem = Problem("logistic")
    w, sampler, optimizer = new(problem, chunks=1, lr=1e-4)
    moves = []
    for epoch in range(10):
        for rows in sampler:
            optimizer.zero_grad()
            ((1e4 if epoch >= 8 else 1.0) * problem.loss(w, rows)).backward()
            before = w.detach().clone()
            optimizer.step()
            moves.append(not torch.equal(w, before))
    length = sampler.plan.steps
    assert not any(moves[7 * length : 8 * length - 1])
    assert all(moves[9 * length :])


def test_a_state_that_cannot_belong_is_refused_and_nothing_changes():
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem)
    train(problem, w, sampler, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    other_size = Problem("ridge", d=5)
    strangers = {
        "no entry 'secant'": torch.optim.Adam([torch.nn.Parameter(w.detach())]).state_dict(),
        "plan": new(problem, chunks=3)[2].state_dict(),
        "pairs=12": new(problem, pairs=20)[2].state_dict(),
        "base": SecantTO([w], sampler, base=make_adam([w])).state_dict(),
        "shape": None,
        "param groups": two_groups(problem)[2].state_dict(),
    }
    v, _, small = new(other_size)
    train(other_size, v, sampler, small, 3)
    strangers["shape"] = small.state_dict()
    strangers["another version"] = copy.deepcopy(state)
    del strangers["another version"]["param_groups"][0]["secant"]["numbers"]["model"]["newest"]
    for message, stranger in strangers.items():
        before = tensors_of(optimizer)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(stranger)
        assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(optimizer), strict=True))
    optimizer.load_state_dict(state)


def test_a_fresh_state_makes_an_optimizer_fresh():
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem)
    fresh = copy.deepcopy(optimizer.state_dict())
    train(problem, w, sampler, optimizer, 3)
    optimizer.load_state_dict(fresh)
    assert (optimizer.steps, optimizer.memory()) == (0, [0])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lr": -1.0}, ValueError, "lr=-1"),
        ({"lr": "0.1"}, TypeError, "lr='0.1'"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay=nan"),
        ({"pairs": 0}, ValueError, "pairs=0"),
        ({"first": 1.5}, TypeError, "first=1.5"),
        ({"patience": True}, TypeError, "patience=True"),
        ({"scale": 0}, ValueError, "scale=0"),
        ({"trust": math.inf}, ValueError, "trust=inf"),
        ({"plan": [1, 2]}, TypeError, "give a ChunkSampler, a Plan"),
        ({"base": torch.optim.SGD([torch.zeros(1)], lr=1.0)}, ValueError, "base=SGD"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, error, message):
    w = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(error, match=message):
        SecantTO([w], **{"plan": Plan.split([4, 4]), **settings})


@pytest.mark.parametrize("frozen", [True, False])
def test_a_parameter_without_a_gradient_stays(frozen):
    """Its weight decay, too, is left out, as torch.optim does."""
    problem = Problem("ridge")
    w = torch.nn.Parameter(torch.zeros(problem.d, dtype=torch.float64))
    idle = torch.nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=not frozen)
    sampler = ChunkSampler(problem.n, 5, 4)
    optimizer = SecantTO([{"params": [idle], "weight_decay": 0.1}, {"params": [w]}], sampler)
    history = train(problem, w, sampler, optimizer, 18)
    assert torch.equal(idle.detach(), torch.ones(3).double())
    assert history[-1] - problem.optimum() < 1e-12


def test_numbers_and_empty_tensors_are_parameters():
    """A temperature is 0-dim; steps on it are those on a tensor of one number."""
    problem = Problem("ridge")
    ends = []
    for shape in ((), (1,)):
        w = torch.nn.Parameter(torch.zeros(problem.d - 1, dtype=torch.float64))
        last = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        empty = torch.nn.Parameter(torch.zeros(0, 3, dtype=torch.float64))
        sampler = ChunkSampler(problem.n, 5, 4)
        optimizer = SecantTO([last, empty, w], sampler)
        for _ in range(6):
            for rows in sampler:
                optimizer.zero_grad()
                problem.loss(torch.cat([w, last.reshape(1)]), rows).backward()
                optimizer.step()
        assert optimizer.estimate(last).shape == shape
        ends.append(torch.cat([w.detach(), last.detach().reshape(1)]))
    assert torch.equal(*ends)


@pytest.mark.parametrize("loss", [torch.ones(5), "low"])
def test_a_loss_that_is_no_number_is_refused_and_nothing_changes(loss):
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem)
    batches = iter(sampler)
    take(problem, w, optimizer, next(batches))
    before, steps = tensors_of(optimizer), optimizer.steps
    with pytest.raises((ValueError, TypeError), match=r"^loss.*: give one number"):
        optimizer.step(loss=loss)
    assert optimizer.steps == steps
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(optimizer), strict=True))
    for rows in batches:  # the refused step isn't one of the pass
        take(problem, w, optimizer, rows)
    take(problem, w, optimizer, next(iter(sampler)))


def test_a_run_goes_on_bit_for_bit_whatever_lr_the_new_optimizer_was_given():
    """Until the first pair says another, the model's curvature is 1/lr, of the run that began."""
    problem = Problem("ridge")
    w, sampler, optimizer = new(problem, first=1, watch=False)
    batches = [rows for _ in range(3) for rows in sampler]
    for rows in batches[:5]:
        take(problem, w, optimizer, rows)
    other = torch.nn.Parameter(w.detach().clone())
    resumed = SecantTO([other], sampler.plan, lr=0.9, first=1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for rows in batches[5:]:
        take(problem, w, optimizer, rows)
        take(problem, other, resumed, rows)
        assert torch.equal(w, other)


def test_a_state_that_does_not_fit_is_refused_with_the_lean_choice():
    """10¹⁵ weights in the memory of one: nothing is allocated."""
    w = torch.nn.Parameter(torch.zeros(1).expand(10**15))
    message = r"71 vectors of d = 10{15}, .* chunks=4 \(39 vectors, 156.0 PB\)"
    with pytest.raises(MemoryError, match=message):
        SecantTO([w], ChunkSampler(64, 4))


def test_the_lean_choice_is_39_vectors():
    problem = Problem("ridge")
    w = torch.nn.Parameter(torch.zeros(problem.d, dtype=torch.float64))
    sampler = ChunkSampler(problem.n, 5, chunks=4)
    optimizer = SecantTO([w], sampler)
    take(problem, w, optimizer, next(iter(sampler)))
    assert optimizer.state[w]["vectors"].shape == (39, problem.d)


def test_a_thousand_infinite_gradients_leave_the_weights_finite():
    """Each restarts the base phase; the size that gradients are compared with stays a number."""
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = SecantTO([w], Plan((1,) * 8, (2, 4, 6, 8)), lr=0.1)
    for step in range(2000):
        w.grad = torch.full((3,), float("inf")) if step % 2 else w.detach() * 0.1
        optimizer.step()
        assert w.isfinite().all()
