"""Kernels against the rules themselves, tensor by tensor, on every dtype and through every trap."""

import math

import numpy as np
import pytest
import torch
from side_by_side import CASES, SHAPES, assert_near, train_both

from trainopt import DiagonalTO, FullTO, InverseTime
from trainopt.harness.ablations import LaggedDiagonalTO
from trainopt.kernels import Batch, build, cpu

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


def test_a_group_whose_active_parameters_change():
    def change(t, params):
        params[t % 2].grad = None

    shapes = [(3, 4), (5,), (2,)]
    for scope in ("group", "tensor"):
        both = train_both(FullTO, torch.float64, shapes, steps=20, change=change, scope=scope)
        assert_near(*both, torch.float64)


def test_thousands_of_tiny_tensors_are_one_call(monkeypatch):
    calls = []
    real = cpu.prepare
    monkeypatch.setattr(cpu, "prepare", lambda batch: calls.append(1) or real(batch))
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
    with pytest.raises(
        RuntimeError, match="there is none for Diagonal by Lagged of Weights on cpu"
    ):
        optimizer.step()


@pytest.mark.parametrize("dtype", build.DTYPES, ids=str)
def test_the_norm_of_a_gradient_sees_every_number(dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = [(7,), (0,), (300, 121), (1025,), ()]
    gradients = [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]
    weights = [torch.zeros_like(g) for g in gradients]
    a, b = ([torch.zeros_like(g) for g in gradients] for _ in range(2))

    def norm():
        batch = Batch(weights, gradients, [a, b], None, list(range(6)), None)
        return float(cpu.gradient_norm(cpu.prepare(batch)))

    numbers = np.concatenate([g.double().reshape(-1).numpy() for g in gradients])
    assert norm() == pytest.approx(np.linalg.norm(numbers), rel=1e-6)
    for g in gradients:
        flat = g.view(-1)
        for place in {0, 1023, 1024, g.numel() // 2, g.numel() - 1}:
            if 0 <= place < g.numel():
                kept = flat[place].item()
                for bad in (math.nan, math.inf, -math.inf):
                    flat[place] = bad
                    assert not math.isfinite(norm())
                flat[place] = kept
    assert math.isfinite(norm())
