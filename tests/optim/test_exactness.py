"""Nothing is remembered that a user may have changed: kernels and rules give the same numbers."""

import copy
import io

import numpy as np
import pytest
import torch
from common import IDS, SETTINGS, VARIANTS, assert_same, fill_grads, make_params, train

from trainopt import DiagonalTO, FullTO, RankOneTO, Schedule

# Above the size from which threads share a vector in the kernels.
WIDE = 40_000


def halve(optimizer, p):
    p.data.mul_(0.5)


def clip(optimizer, p):
    p.data.clamp_(-0.02, 0.02)


def set_a_part(optimizer, p):
    p.data[3:5_000] = 0.5


def through_numpy(optimizer, p):
    p.detach().numpy()[::7] = 0.1


def other_memory(optimizer, p):
    p.data = p.detach() * 1.5


def edit_state(optimizer, p):
    optimizer.state[p][optimizer.variables[0]].data.mul_(0.5)


def replace_state(optimizer, p):
    optimizer.state[p]["b"] = optimizer.state[p]["b"] * 0.5


def fused_by_torch(optimizer, p):
    torch.optim.SGD([p], lr=0.1, fused=True).step()


EDITS = [
    halve,
    clip,
    set_a_part,
    through_numpy,
    other_memory,
    edit_state,
    replace_state,
    fused_by_torch,
]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("cls", VARIANTS)
def test_what_users_write_between_steps_is_seen(cls, edit):
    size = 60 if cls is FullTO else WIDE
    ends = []
    for fused in (None, False):
        p = torch.nn.Parameter(torch.linspace(-0.05, 0.05, size, dtype=torch.float64))
        alpha = 1e-4 if cls is RankOneTO else 0.02
        optimizer = cls([p], lr=0.05, alpha=alpha, beta=0.5, fused=fused)
        for t in range(11):
            p.grad = p.detach() + 0.03 * torch.cos(torch.arange(size) * (t + 1.0))
            optimizer.step()
            edit(optimizer, p)
        ends.append([p.detach(), *(optimizer.state[p][name] for name in optimizer.variables)])
    assert_same(*ends, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fused", [None, False])
def test_parameters_that_share_memory_step_one_after_the_other(fused):
    """w and w[100:] as two parameters: what one wrote the other reads, whatever the threads do."""
    base = torch.linspace(-1, 1, WIDE)
    memory = base.clone()
    params = [torch.nn.Parameter(memory), torch.nn.Parameter(memory[100:])]
    assert params[0].data_ptr() != params[1].data_ptr()
    optimizer = DiagonalTO(params, lr=0.1, alpha=0.0, beta=1.0, fused=fused)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    expected = base - 0.1
    expected[100:] -= 0.1
    torch.testing.assert_close(memory, expected)
    if fused is None:
        optimizer.param_groups[0]["fused"] = True
        with pytest.raises(RuntimeError, match="two tensors share memory"):
            optimizer.step()


@pytest.mark.parametrize("size", [1, 6])  # of one number it is contiguous
@pytest.mark.parametrize("cls", [DiagonalTO, RankOneTO])
def test_a_gradient_whose_memory_has_the_other_sign(cls, size):
    """The imaginary part of a conjugate is a view that negates when it is read."""
    ends = []
    for lazy in (True, False):
        p = torch.nn.Parameter(torch.linspace(-1, 1, size))
        gradient = torch.complex(torch.zeros(size), torch.arange(1.0, size + 1)).conj().imag
        assert gradient.is_neg()
        p.grad = gradient if lazy else gradient.clone()
        cls([p], lr=0.1).step()
        ends.append([p.detach()])
    assert_same(*ends)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_the_order_of_weights_in_memory_has_no_part_in_a_step(cls, extra, fused):
    """Channels last, and contiguous from the middle of a run on, as the number of a row says."""
    ends = []
    for formats in (
        (torch.contiguous_format,) * 2,
        (torch.channels_last,) * 2,
        (torch.channels_last, torch.contiguous_format),
        (torch.contiguous_format, torch.channels_last),
    ):
        params = make_params(shapes=[(2, 3, 2, 2), (4,)])
        optimizer = cls(params, lr=0.1, alpha=0.02, beta=0.5, fused=fused, **extra)
        for i, memory_format in enumerate(formats):
            params[0].data = params[0].data.contiguous(memory_format=memory_format)
            train(optimizer, params, 3, start=3 * i)
        ends.append([x for p in params for x in (p.detach(), *optimizer.state[p].values())])
    for end in ends[1:]:
        assert_same(end, ends[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_a_gradient_from_before_the_weights_became_wide(cls, extra):
    ends = []
    for fused in (None, False):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 6))
        p.grad = torch.arange(6.0)
        p.data = p.data.double()
        cls([p], lr=0.1, alpha=0.0, beta=1.0, fused=fused, **extra).step()
        ends.append([p.detach()])
    assert_same(*ends)
    expected = torch.linspace(-1, 1, 6).double() - 0.1 * torch.arange(6.0).double()
    torch.testing.assert_close(ends[0][0], expected)


@pytest.mark.parametrize("path", [{}, {"foreach": False}, {"foreach": True}])
@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_learn_leaves_weights_to_the_last_bit(cls, extra, path):
    for dtype, state_dtype in (
        (torch.float64, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, None),
    ):
        params = make_params(dtype)
        before = [p.detach().clone() for p in params]
        loss = sum((p * p).sum() for p in params)
        optimizer = cls(params, lr=0.1, state_dtype=state_dtype, **extra, **path)
        for p in params:
            p.grad = torch.full_like(p, float("inf"))
        optimizer.learn()
        assert_same(params, before)
        loss.backward()  # the weights that it saved are as they were


@pytest.mark.parametrize("path", [{}, {"foreach": False}, {"foreach": True}])
@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_a_narrow_state_leaves_the_weights_wide(cls, extra, path):
    p = torch.nn.Parameter(torch.tensor([1 + 2.0**-40, 2.0], dtype=torch.float64))
    before = p.detach().clone()
    p.grad = torch.ones_like(p)
    for state_dtype in (torch.float32, torch.bfloat16):
        cls([p], lr=0.0, state_dtype=state_dtype, **extra, **path).step()
        assert torch.equal(p, before)
    # e = g at the first step, so the estimate is (α‖w‖² or α w² + β) g: exact in float64.
    optimizer = cls([p], lr=0.5, alpha=0.0, beta=0.5, state_dtype=torch.bfloat16, **extra, **path)
    optimizer.step()
    torch.testing.assert_close(p.detach(), before - 0.25, rtol=0, atol=1e-15)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("keep_estimate", [False, True])
def test_a_step_of_large_tensors_is_the_step_to_the_last_number(foreach, keep_estimate):
    """Plain torch takes them in slices that fit into a cache: none is lost, nor its residual."""
    sizes, alpha, beta, lr = (300_001, 7, 150_000), 0.05, 0.4, 0.1
    params = [torch.nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64)) for n in sizes]
    optimizer = DiagonalTO(
        params, lr=lr, alpha=alpha, beta=beta, foreach=foreach, keep_estimate=keep_estimate
    )
    w = [p.detach().numpy().copy() for p in params]
    a, b = ([np.zeros(n) for n in sizes] for _ in range(2))
    for t in range(3):
        squares = 0.0
        for i, p in enumerate(params):
            g = np.sin(w[i] * (t + 2)) + w[i]
            p.grad = torch.from_numpy(g)
            e = g - a[i] * w[i] - b[i]
            a[i], b[i] = a[i] + alpha * e * w[i], b[i] + beta * e
            estimate = a[i] * w[i] + b[i]
            w[i] = w[i] - lr * estimate
            squares += (e**2).sum()
        optimizer.step()
        assert float(optimizer.residual_norm()) == pytest.approx(squares**0.5, rel=1e-12)
    for i, p in enumerate(params):
        np.testing.assert_allclose(p.detach().numpy(), w[i], rtol=0, atol=1e-12)
        np.testing.assert_allclose(optimizer.state[p]["a"].numpy(), a[i], rtol=0, atol=1e-12)
        np.testing.assert_allclose(optimizer.state[p]["b"].numpy(), b[i], rtol=0, atol=1e-12)
    if keep_estimate:
        np.testing.assert_allclose(optimizer.estimate(params[2]).numpy(), estimate, atol=1e-12)


@pytest.mark.parametrize("cls", VARIANTS)
def test_a_narrow_state_is_that_of_the_kernels(cls):
    ends = []
    for fused in (None, False):
        params = make_params(torch.float32, shapes=[(30, 4), (7,)])
        optimizer = cls(
            params, lr=0.05, alpha=0.01, beta=0.3, state_dtype=torch.bfloat16, fused=fused
        )
        train(optimizer, params, 8)
        ends.append([p.detach() for p in params])
    assert_same(*ends, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_autocast_has_no_part_in_a_step(cls, extra):
    ends = []
    for mixed in (True, False):
        params = make_params(torch.float32)
        optimizer = cls(params, lr=0.05, beta=0.5, fused=False, **extra)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            train(optimizer, params, 5)
        ends.append([x for p in params for x in (p.detach(), *optimizer.state[p].values())])
    assert_same(*ends)


def test_the_residual_norm_is_where_the_weights_are():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = DiagonalTO([p], lr=0.1)
    torch.set_default_device("meta")
    try:
        optimizer.step()
        assert optimizer.residual_norm().device == p.device
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("cls", VARIANTS)
def test_a_state_that_was_kept_is_live(cls):
    """As torch's own: a checkpoint in the making and whoever keeps `state` see every step."""
    params = make_params()
    optimizer = cls(params, lr=0.1, beta=0.5)
    train(optimizer, params, 1)
    kept, saved = optimizer.state, optimizer.state_dict()
    train(optimizer, params, 3, start=1)
    for i, p in enumerate(params):
        for name in optimizer.variables:
            assert torch.equal(kept[p][name], optimizer.state[p][name])
            assert torch.equal(saved["state"][i][name], optimizer.state[p][name])


@pytest.mark.parametrize(("cls", "extra"), SETTINGS[2:], ids=IDS[2:])
def test_a_resumed_run_is_the_same_to_the_last_bit_where_threads_share_a_vector(cls, extra):
    def fresh():
        params = make_params(shapes=[(WIDE,), (7,)])
        return params, cls(params, lr=0.05, alpha=1e-6, beta=0.3, **extra)

    params, optimizer = fresh()
    train(optimizer, params, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in params]
    train(optimizer, params, 3, start=3)
    file.seek(0)
    other = cls(resumed, lr=0.7, **extra)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(train(other, resumed, 3, start=3), params)


@pytest.mark.parametrize("cls", VARIANTS)
def test_rates_may_be_numpy_numbers(cls):
    params, plain = make_params(), make_params()
    optimizer = cls(params, lr=np.logspace(-3, 0, 4)[2], alpha=np.float32(0.5), beta=np.int64(1))
    reference = cls(plain, lr=0.1, alpha=0.5, beta=1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + np.cos(t / 100)))
    for t in range(3):
        fill_grads(params, t)
        fill_grads(plain, t)
        reference.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + np.cos(t / 100).item())
        optimizer.step()
        reference.step()
        schedule.step()
    assert optimizer.param_groups[0]["step"] == 3
    assert_same(params, plain)


class Warmup(Schedule):
    """A linear warm-up that starts at 0."""

    def __call__(self, t):
        return 0.1 * min(t / 4, 1.0)


@pytest.mark.parametrize("cls", VARIANTS)
def test_a_schedule_that_starts_at_0_goes_on(cls):
    params, plain = make_params(), make_params()
    optimizer, reference = cls(params, lr=Warmup(), beta=0.5), cls(plain, lr=0.1, beta=0.5)
    for t in range(6):
        fill_grads(params, t)
        fill_grads(plain, t)
        optimizer.step()
        reference.param_groups[0]["lr"] = 0.1 * min(t / 4, 1.0)
        reference.step()
    assert optimizer.param_groups[0]["step"] == 6
    assert_same(params, plain)


def test_the_dummy_step_with_a_plain_lr_of_0_holds_a_fresh_clock_only():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.0)
    train(optimizer, params, 2)
    assert optimizer.param_groups[0]["step"] == 0
    optimizer.param_groups[0]["lr"] = 0.1
    train(optimizer, params, 1)
    optimizer.param_groups[0]["lr"] = 0.0
    train(optimizer, params, 1)
    assert optimizer.param_groups[0]["step"] == 2


@pytest.mark.parametrize("cls", VARIANTS)
def test_a_parameter_that_was_taken_out_is_freed(cls):
    import gc
    import weakref

    params = make_params()
    optimizer = cls([{"params": [p]} for p in params], lr=0.1)
    train(optimizer, params, 2)
    state = weakref.ref(optimizer.state.pop(params[1])[optimizer.variables[0]])
    weights = weakref.ref(params[1])
    del optimizer.param_groups[1]
    optimizer.zero_grad()
    del params[1]
    gc.collect()
    assert state() is None
    assert weights() is None


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_a_compiled_step_leaves_estimate_and_residual(cls, extra):
    torch._dynamo.reset()
    params = make_params()
    optimizer = cls(params, lr=0.1, beta=0.5, keep_estimate=True, **extra)
    plain = make_params()
    reference = cls(plain, lr=0.1, beta=0.5, keep_estimate=True, **extra)
    fill_grads(params, 0)
    fill_grads(plain, 0)
    torch.compile(optimizer.step, backend="eager")()
    reference.step()
    for p, q in zip(params, plain, strict=True):
        torch.testing.assert_close(optimizer.estimate(p), reference.estimate(q))
    torch.testing.assert_close(optimizer.residual_norm(), reference.residual_norm())


def test_a_copied_optimizer_remembers_no_step_of_the_other():
    params = make_params()
    optimizer = DiagonalTO(params, lr=0.1, keep_estimate=True)
    train(optimizer, params, 1)
    twin = copy.deepcopy(optimizer)
    with pytest.raises(RuntimeError, match="no residual"):
        twin.residual_norm()
