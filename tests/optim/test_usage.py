"""Everything users do with a torch optimizer."""

import copy
import gc
import weakref

import pytest
import torch
from common import (
    IDS,
    SETTINGS,
    VARIANTS,
    assert_same,
    clone_params,
    fill_grads,
    make_params,
    state_of,
    train,
)

from trainopt import (
    TO,
    Constant,
    DiagonalTO,
    Estimator,
    FullTO,
    Kronecker,
    Normalised,
    RankOneTO,
)

all_settings = pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
all_variants = pytest.mark.parametrize("cls", VARIANTS)


@all_settings
def test_foreach_and_for_loop_give_the_same_numbers(cls, extra):
    runs = []
    for foreach in (False, True):
        params = make_params(torch.float32)
        optimizer = cls(params, lr=0.1, beta=0.5, weight_decay=0.01, foreach=foreach, **extra)
        runs.append(train(optimizer, params, 20))
    assert_same(*runs)


@pytest.mark.parametrize(("cls", "extra"), SETTINGS[2:], ids=IDS[2:])
def test_fused_gives_the_same_numbers(cls, extra):
    torch._dynamo.reset()
    runs = []
    for fused in (False, True):
        params = make_params()
        optimizer = cls(params, lr=0.1, beta=0.5, weight_decay=0.01, fused=fused, **extra)
        runs.append(train(optimizer, params, 5))
    assert_same(*runs, rtol=1e-11, atol=1e-12)


@all_settings
def test_groups_with_different_settings_are_separate_optimizers(cls, extra):
    one, two = make_params(seed=1), make_params(seed=2)
    groups = [
        {"params": one, "lr": 0.05, "alpha": 0.02},
        {"params": two, "beta": 0.3, "weight_decay": 0.1},
    ]
    together = cls(groups, lr=0.1, **extra)
    alone = [clone_params(one), clone_params(two)]
    separate = [
        cls(alone[0], lr=0.05, alpha=0.02, **extra),
        cls(alone[1], lr=0.1, beta=0.3, weight_decay=0.1, **extra),
    ]
    for t in range(10):
        for params in (one, two, *alone):
            fill_grads(params, t)
        together.step()
        for optimizer in separate:
            optimizer.step()
    assert_same([*one, *two], [*alone[0], *alone[1]])
    assert together.memory() == [optimizer.memory()[0] for optimizer in separate]


@all_settings
def test_add_param_group_later(cls, extra):
    params, late = make_params(), make_params(seed=9)
    optimizer = cls(params, lr=0.1, **extra)
    train(optimizer, params, 3)
    optimizer.add_param_group({"params": late, "lr": 0.01})
    assert optimizer.param_groups[1]["step"] == 0
    train(optimizer, [*params, *late], 3)
    assert [float(group["step"]) for group in optimizer.param_groups] == [6, 3]


@all_settings
def test_parameters_without_gradient_are_left_alone(cls, extra):
    params = make_params()
    frozen = torch.nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)
    optimizer = cls([*params, frozen], lr=0.1, beta=0.5, weight_decay=0.1, **extra)
    train(optimizer, params, 3)
    before = state_of(optimizer)["state"]
    fill_grads(params, 7)
    params[1].grad = None
    kept = params[1].detach().clone()
    optimizer.step()
    assert torch.equal(params[1], kept)
    after = optimizer.state_dict()["state"]
    for name, value in before[1].items():
        assert torch.equal(after[1][name], value)
    assert torch.equal(frozen, torch.ones(3, dtype=torch.float64))
    assert frozen not in optimizer.state


def test_full_keeps_the_columns_of_an_absent_parameter():
    params = make_params()
    optimizer = FullTO(params, lr=0.1)
    train(optimizer, params, 3)
    columns = slice(12, 16)  # of params[1]
    before = optimizer.state[params[0]]["A"].clone()
    fill_grads(params, 3)
    params[1].grad = None
    optimizer.step()
    after = optimizer.state[params[0]]["A"]
    assert torch.equal(after[:, columns], before[:, columns])
    assert not torch.equal(after, before)


@all_variants
def test_no_gradient_at_all_is_no_step(cls):
    params = make_params()
    optimizer = cls(params, lr=0.1)
    optimizer.step()
    assert not optimizer.state
    assert optimizer.param_groups[0]["step"] == 0
    assert optimizer.memory() == [0]


@all_variants
def test_closure(cls):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = cls([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first.item() == 3
    assert optimizer.step(closure) < first


@all_variants
def test_step_hooks(cls):
    params = make_params()
    optimizer = cls(params, lr=0.1)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(optimizer, params, 1)
    assert calls == ["before", "after"]


@all_variants
def test_what_the_optimizer_knows(cls):
    p = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64))
    optimizer = cls([p], lr=0.1, alpha=0.01, beta=0.5, keep_estimate=True)
    with pytest.raises(RuntimeError, match="step"):
        optimizer.residual_norm()
    before = p.detach().clone()
    p.grad = torch.ones_like(p)
    optimizer.step()
    torch.testing.assert_close(optimizer.estimate(p), (before - p.detach()) / 0.1)
    torch.testing.assert_close(optimizer.residual_norm(), p.grad.norm())  # e₀ = g₀
    with pytest.raises(KeyError, match="parameter of shape"):
        optimizer.estimate(torch.zeros(1))
    optimizer.zero_grad()
    with pytest.raises(KeyError, match="zero_grad"):
        optimizer.estimate(p)
    optimizer.param_groups[0]["keep_estimate"] = False
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(KeyError, match="wasn't kept: give keep_estimate=True"):
        optimizer.estimate(p)


@all_variants
def test_learn_leaves_the_weights(cls):
    stepping, learning = (torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
    steps = cls([stepping], lr=0.1, alpha=0.01, beta=0.5, weight_decay=0.1, keep_estimate=True)
    learns = cls([learning], lr=0.1, alpha=0.01, beta=0.5, weight_decay=0.1)
    for t in range(3):
        stepping.grad = torch.tensor([0.5, t, -1.0])
        learning.grad = stepping.grad.clone()
        before = stepping.detach().clone()
        steps.step()
        learns.learn()
        assert_same([learning], [before], rtol=0, atol=0)
        assert_same([learns.estimate(learning)], [steps.estimate(stepping)], rtol=1e-6, atol=1e-7)
        with torch.no_grad():
            learning.copy_(stepping)
    assert learns.param_groups[0]["step"] == 3


@pytest.mark.parametrize(
    ("cls", "count"), [(FullTO, 17 * 17 + 17), (DiagonalTO, 2 * 17), (RankOneTO, 3 * 17)]
)
def test_memory_by_the_formula(cls, count):
    params = make_params(torch.float32)
    optimizer = cls(params, lr=0.1)
    train(optimizer, params, 1)
    assert optimizer.memory() == [4 * count]


@all_variants
def test_zero_grad_frees_the_estimate(cls):
    params = make_params()
    optimizer = cls(params, lr=0.1, keep_estimate=True)
    train(optimizer, params, 1)
    estimate = weakref.ref(optimizer.estimate(params[0]))
    optimizer.zero_grad()
    gc.collect()
    assert estimate() is None
    assert all(p.grad is None for p in params)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@all_settings
def test_half_precision_keeps_float32_state(cls, extra, dtype):
    halves, singles = make_params(dtype), make_params(torch.float32)
    for half, single in zip(halves, singles, strict=True):
        single.data.copy_(half)
    run = {"lr": 0.1, "beta": 0.3, **extra}
    train(optimizer := cls(halves, **run), halves, 20)
    train(cls(singles, **run), singles, 20)
    assert all(x.dtype == torch.float32 for s in optimizer.state.values() for x in s.values())
    assert all(p.dtype == dtype for p in halves)
    assert_same([p.float() for p in halves], singles, rtol=0.05, atol=0.05)


@all_variants
def test_state_dtype_can_be_chosen(cls):
    params = make_params(torch.bfloat16)
    optimizer = cls(params, lr=0.1, state_dtype=torch.bfloat16)
    train(optimizer, params, 2)
    assert all(x.dtype == torch.bfloat16 for s in optimizer.state.values() for x in s.values())


@all_settings
@pytest.mark.parametrize("foreach", [False, True])
def test_complex_is_pairs_of_reals(cls, extra, foreach):
    start = torch.randn(3, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    p = torch.nn.Parameter(start.clone())
    q = torch.nn.Parameter(torch.view_as_real(start).clone())
    settings = {
        "lr": 0.1,
        "alpha": 0.02,
        "beta": 0.4,
        "foreach": foreach,
        "keep_estimate": True,
        **extra,
    }
    one, two = cls([p], **settings), cls([q], **settings)
    for t in range(10):
        fill_grads([q], t)
        p.grad = torch.view_as_complex(q.grad)
        one.step()
        two.step()
    assert_same([torch.view_as_real(p.detach())], [q.detach()], rtol=1e-12, atol=1e-13)
    assert one.estimate(p).dtype == torch.complex128
    assert one.memory() == two.memory()


@all_settings
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
    ],
    ids=["channels_last", "transposed", "strided"],
)
def test_layout_does_not_matter(cls, extra, foreach, layout):
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, other = torch.nn.Parameter(x.clone()), torch.nn.Parameter(layout(x.clone()))
    settings = {
        "lr": 0.1,
        "alpha": 0.001,
        "beta": 0.4,
        "foreach": foreach,
        "keep_estimate": True,
        **extra,
    }
    pairs = [(plain, cls([plain], **settings)), (other, cls([other], **settings))]
    for t in range(5):
        for p, optimizer in pairs:
            fill_grads([p], t)
            optimizer.step()
    torch.testing.assert_close(other.detach(), plain.detach(), rtol=1e-12, atol=1e-13)
    assert other.stride() == layout(x).stride()
    torch.testing.assert_close(pairs[0][1].estimate(plain), pairs[1][1].estimate(other))


@all_settings
@pytest.mark.parametrize("foreach", [False, True])
def test_empty_and_zero_dimensional_parameters(cls, extra, foreach):
    params = make_params(shapes=((0, 3), (), (2,)))
    optimizer = cls(params, lr=0.1, foreach=foreach, **extra)
    train(optimizer, params, 3)
    assert all(p.isfinite().all() for p in params)
    empty = make_params(shapes=((0,),))
    train(cls(empty, lr=0.1, foreach=foreach, **extra), empty, 2)


@all_variants
def test_maximize_is_descent_on_the_negated_gradient(cls):
    up, down = make_params(), make_params()
    one, two = cls(up, lr=0.1, maximize=True), cls(down, lr=0.1)
    for _ in range(5):
        for p, q in zip(up, down, strict=True):
            p.grad, q.grad = -(q.detach() - 1), q.detach() - 1
        one.step()
        two.step()
    assert_same(up, down)


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
@pytest.mark.parametrize("foreach", [False, True])
def test_a_gradient_flows_through_a_step(cls, extra, foreach):
    x = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def last(w, lr, alpha, beta, g0, g1, g2):
        p = w.clone()
        optimizer = cls(
            [p], lr=lr, alpha=alpha, beta=beta, differentiable=True, foreach=foreach, **extra
        )
        for g in (g0, g1, g2):
            p.grad = g
            optimizer.step()
        return p, *(value for value in optimizer.state[p].values() if value.requires_grad)

    inputs = [x, *(torch.tensor(v, dtype=torch.float64) for v in (0.1, 0.05, 0.4))]
    inputs += [x + 1, 2 * x, x * x]
    assert torch.autograd.gradcheck(last, [v.requires_grad_() for v in map(torch.clone, inputs)])


@all_variants
def test_clipping_and_lr_scheduler(cls):
    params = make_params()
    optimizer = cls(params, lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    rates = []
    for t in range(10):
        fill_grads(params, t, scale=100)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[-1] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


@all_variants
def test_grad_scaler_and_autocast(cls):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    x = torch.randn(64, 4)
    y = x @ torch.tensor([[1.0], [2.0], [-1.0], [0.5]])
    optimizer = cls(model.parameters(), lr=0.1, alpha=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.mse_loss(model(x).float(), y)
        scaler.scale(loss).backward()
        if step == 5:
            model.weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert optimizer.param_groups[0]["step"] == 39  # the step with an inf was skipped
    assert losses[-1] < 0.01 * losses[0]


@all_variants
def test_compiled_step_is_the_same_step(cls):
    # float64 without a 0-dim tensor: torch.compile loses what is written into one.
    torch._dynamo.reset()
    shapes = ((4, 3), (4,))
    params, plain = make_params(shapes=shapes), make_params(shapes=shapes)
    compiled, eager = cls(params, lr=0.1, beta=0.5), cls(plain, lr=0.1, beta=0.5)
    step = torch.compile(compiled.step, backend="aot_eager")
    for t in range(3):
        fill_grads(params, t)
        step()
        fill_grads(plain, t)
        eager.step()
    assert_same(params, plain, rtol=1e-11, atol=1e-12)
    assert compiled.param_groups[0]["step"] == 3


@all_variants
def test_a_deepcopied_model_and_state_trains_on(cls):
    model = torch.nn.Linear(3, 2)
    optimizer = cls(model.parameters(), lr=Constant(0.1))
    params = list(model.parameters())
    train(optimizer, params, 2)
    other = copy.deepcopy(model)
    again = cls(other.parameters(), lr=0.5)
    again.load_state_dict(optimizer.state_dict())
    assert_same(train(again, list(other.parameters()), 3), train(optimizer, params, 3))


def test_init_of_rank_one():
    p = torch.nn.Parameter(torch.arange(1.0, 5.0))
    p.grad = torch.ones(4)
    chosen = RankOneTO([p], lr=0.0, alpha=0.0, init=lambda w: w / w.norm())
    chosen.step()
    torch.testing.assert_close(chosen.state[p]["c"], p.detach() / p.detach().norm())
    torch.manual_seed(0)
    normal = RankOneTO([p], lr=0.0, alpha=0.0, init="normal")
    normal.step()
    assert normal.state[p]["c"].unique().numel() == 4
    ones = RankOneTO([p], lr=0.0, alpha=0.0)
    ones.step()
    torch.testing.assert_close(ones.state[p]["c"].norm(), torch.tensor(1.0))


@all_variants
def test_named_parameters(cls):
    model = torch.nn.Linear(3, 2)
    optimizer = cls(model.named_parameters(), lr=0.1)
    train(optimizer, list(model.parameters()), 1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


def test_an_estimator_and_the_optimizer_that_steps_along_it_stay_one():
    """After the optimizer has loaded a state dict, and as a copy."""

    def fresh():
        p = torch.nn.Parameter(torch.ones(4, 3))
        estimator = Estimator([p], Kronecker(), Normalised(0.5, 0.1))
        return p, estimator, TO(estimator, lr=0.1)

    def step(p, optimizer):
        p.grad = p.detach() + torch.eye(4, 3)
        optimizer.step()

    p, estimator, optimizer = fresh()
    step(p, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    loaded = fresh()
    step(loaded[0], loaded[2])
    loaded[2].load_state_dict(saved)
    for q, e, o in (loaded, copy.deepcopy((p, estimator, optimizer))):
        for _ in range(2):
            step(q, o)
        assert e.param_groups[0]["step"] == 3
        assert torch.equal(e.residual_norm(), o.residual_norm())
        for name in e.variables:
            assert torch.equal(e.state[q][name], o.state[q][name])


@all_settings
def test_differentiable_steps_learn_as_others_do(cls, extra):
    ends = []
    for differentiable in (False, True):
        params = [p.detach().clone().requires_grad_() for p in make_params(torch.float64)]
        inner = [p.clone() for p in params] if differentiable else params
        optimizer = cls(inner, lr=0.1, beta=0.5, **extra, differentiable=differentiable)
        for t in range(4):
            fill_grads(inner, t)
            optimizer.step()
        ends.append([p.detach() for p in inner])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other)


def test_each_tensor_of_a_group_keeps_its_own_dtype():
    ends = []
    for others in ([torch.float32], []):
        params = [torch.nn.Parameter(torch.ones(3, dtype=d)) for d in [*others, torch.float64]]
        optimizer = DiagonalTO(params, lr=0.1, beta=0.5, fused=False)
        for _ in range(3):
            for p in params:
                p.grad = torch.full_like(p, 1 / 3)
            optimizer.step()
        ends.append(params[-1])
    assert torch.equal(*ends)
