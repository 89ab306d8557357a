"""Kernels against the rules themselves, tensor by tensor, on every dtype and through every trap."""

import pytest
import torch
from side_by_side import CASES, SHAPES, WIDE, assert_near, train_both

from trainopt import DiagonalTO, FullTO, InverseTime, RankOneTO
from trainopt.bench.variants import LaggedDiagonalTO
from trainopt.kernels import build, cpu

pytestmark = pytest.mark.skipif(
    bool(cpu.missing(torch.float32, torch.float32)), reason="no C++ compiler here"
)


@pytest.mark.parametrize("dtype", build.DTYPES, ids=str)
@pytest.mark.parametrize(("cls", "extra"), CASES)
def test_the_kernel_takes_the_step_of_the_rule(cls, extra, dtype):
    assert_near(*train_both(cls, dtype, SHAPES[cls], **extra), dtype)


@pytest.mark.parametrize(("cls", "extra"), CASES)
@pytest.mark.parametrize("settings", [{"maximize": True}, {"weight_decay": 0.3}])
def test_settings_are_those_of_the_rule(cls, extra, settings):
    both = train_both(cls, torch.float64, SHAPES[cls], **settings, **extra)
    assert_near(*both, torch.float64)


@pytest.mark.parametrize("state_dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_state_dtype_of_its_own(state_dtype):
    both = train_both(DiagonalTO, torch.float32, [(40, 5)], state_dtype=state_dtype)
    assert_near(*both, torch.bfloat16 if state_dtype == torch.bfloat16 else torch.float32)


@pytest.mark.parametrize("edit", ["in place", "behind torch's back", "one number", "other memory"])
def test_weights_that_change_between_steps(edit):
    """RankOne-TO carries dot products over: a vector above 32 768 numbers must notice."""

    def change(t, params):
        if t != 5:
            return
        (p,) = params
        with torch.no_grad():
            if edit == "in place":
                p.mul_(0.5)
            elif edit == "behind torch's back":
                p.data.clamp_(-0.5, 0.5)
            elif edit == "one number":
                p[7] = 300.0
            else:
                p.data = p.detach() * 2

    assert_near(
        *train_both(RankOneTO, torch.float64, [(WIDE,)], steps=7, change=change), torch.float64
    )


def test_dots_are_carried_and_are_exact():
    p = torch.nn.Parameter(torch.linspace(-1, 1, WIDE))
    optimizer = RankOneTO([p], lr=0.01, alpha=1e-6, beta=0.3, fused=True)
    for t in range(4):
        p.grad = torch.sin(torch.arange(WIDE) * (t + 1.0))
        optimizer.step()
    ((_, carried),) = optimizer._carried.values()
    a, c, b = (optimizer.state[p][name].double() for name in "acb")
    w = p.detach().double()
    expected = torch.stack([c @ w, a @ a, a @ b, w @ w])
    found = torch.tensor(list(carried._dots[:4]), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)
    assert list(carried._known) == [1]


@pytest.mark.parametrize("scope", ["group", "tensor"])
def test_whoever_reads_A_finds_every_update_in_it(scope):
    def built(fused):
        params = [torch.nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (3, 5)]
        return params, FullTO(params, lr=0.01, alpha=0.02, beta=0.5, scope=scope, fused=fused)

    (one, kernel), (two, plain) = built(True), built(False)
    for t in range(13):
        for params, optimizer in ((one, kernel), (two, plain)):
            for i, p in enumerate(params):
                p.grad = p.detach() * (i + 1) + t
            optimizer.step()
        if t in (0, 4, 9, 12):
            for p, q in zip(one, two, strict=True):
                torch.testing.assert_close(kernel.state[p]["A"], plain.state[q]["A"])
                saved = kernel.state_dict()["state"][0]["A"]
                torch.testing.assert_close(saved, plain.state_dict()["state"][0]["A"])
    assert kernel.memory() == plain.memory()


def test_pairs_wait_beside_A():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = FullTO([p], lr=0.01, alpha=0.1, beta=0.5, fused=True)
    for _ in range(3):
        p.grad = torch.ones(4)
        optimizer.step()
    assert not optimizer._raw[p]["A"].any()  # nothing written yet
    assert optimizer._pending[p].count == 3
    assert optimizer.state[p]["A"].any()
    assert optimizer._pending[p].count == 0


def test_a_group_whose_active_parameters_change():
    def change(t, params):
        params[t % 2].grad = None

    shapes = [(3, 4), (5,), (2,)]
    for scope in ("group", "tensor"):
        both = train_both(FullTO, torch.float64, shapes, steps=20, change=change, scope=scope)
        assert_near(*both, torch.float64)


def test_thousands_of_tiny_tensors_are_one_call(monkeypatch):
    calls = []
    library = build.library(torch.float32, torch.float32)
    real = library.to_diagonal

    class Counting:
        def to_diagonal(self, *args):
            calls.append(1)
            return real(*args)

    monkeypatch.setattr(cpu, "_library", lambda batch: Counting())
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2000)]
    for p in params:
        p.grad = torch.ones(3)
    DiagonalTO(params, lr=0.1, fused=True).step()
    assert len(calls) == 1


def test_changing_rates_compile_nothing_again():
    p = torch.nn.Parameter(torch.ones(8))
    optimizer = DiagonalTO(
        [p], lr=InverseTime(1.0, 9.0), alpha=InverseTime(1.0, 50.0), beta=0.5, fused=True
    )
    p.grad = torch.ones(8)
    optimizer.step()
    before = build.library.cache_info()
    for t in range(1000):
        optimizer.param_groups[0]["beta"] = 1 / (t + 1)
        optimizer.step()
    after = build.library.cache_info()
    assert (after.misses, after.currsize) == (before.misses, before.currsize)


def test_autograd_is_told_of_the_step():
    p = torch.nn.Parameter(torch.ones(3))
    loss = (p * p).sum()
    p.grad = torch.ones(3)
    DiagonalTO([p], lr=0.1, fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_of_another_layout(layout):
    def change(t, params):
        for p in params:
            p.grad = p.grad.contiguous(memory_format=layout)

    both = train_both(DiagonalTO, torch.float64, [(2, 3, 4, 5)], change=change)
    assert_near(*both, torch.float64)


def test_a_group_of_several_dtypes_is_split():
    def built(fused):
        params = [
            torch.nn.Parameter(torch.ones(4, dtype=dtype))
            for dtype in (torch.float32, torch.float64, torch.bfloat16)
        ]
        return params, DiagonalTO(params, lr=0.1, alpha=0.1, beta=0.5, fused=fused)

    (one, kernel), (two, plain) = built(True), built(False)
    for params, optimizer in ((one, kernel), (two, plain)):
        for p in params:
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    for p, q in zip(one, two, strict=True):
        torch.testing.assert_close(p, q)
    torch.testing.assert_close(kernel.residual_norm(), plain.residual_norm().double())


def test_sharded_parameters_are_left_to_the_rule():
    """A subclass of Tensor may be more than its memory: a kernel must not touch it."""

    class Wrapped(torch.Tensor):
        pass

    p = torch.nn.Parameter(torch.ones(3).as_subclass(Wrapped))
    q = torch.nn.Parameter(torch.ones(3))
    p.grad, q.grad = torch.ones(3), torch.ones(3)
    DiagonalTO([p], lr=0.1, beta=0.5).step()
    DiagonalTO([q], lr=0.1, beta=0.5, fused=False).step()
    assert p.tolist() == q.tolist()
    with pytest.raises(RuntimeError, match="a Wrapped is more than its memory"):
        DiagonalTO([p], lr=0.1, fused=True).step()


def test_a_rule_of_its_own_has_no_kernel():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = LaggedDiagonalTO([p], lr=0.1, beta=0.5)
    optimizer.step()
    assert p.tolist() == [1.0, 1.0, 1.0]  # the estimate from before the update is 0
    optimizer.param_groups[0]["fused"] = True
    with pytest.raises(RuntimeError, match="no kernel for the rule lagged_diagonal"):
        optimizer.step()
