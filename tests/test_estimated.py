"""Another optimizer behind the estimate: torch's own on the same gradients is the reference."""

import contextlib
import copy
import pickle
import re

import numpy as np
import pytest
import schedulefree
import torch
from torch.distributed.checkpoint import state_dict as dcp
from torch.optim import SGD, Adam, AdamW

from trainopt import DiagonalTO, Estimated, FullTO, InverseTime, RankOneTO
from trainopt.integrations.monitor import monitor

INNERS = {
    "adamw": lambda params: AdamW(params, lr=0.05),
    "adamw-fused": lambda params: AdamW(params, lr=0.05, fused=True),
    "adamw-amsgrad-maximize": lambda params: AdamW(params, lr=0.05, amsgrad=True, maximize=True),
    "sgd": lambda params: SGD(params, lr=0.1),
    "momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adafactor": lambda params: torch.optim.Adafactor(params, lr=0.05),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.01),
    "schedulefree": lambda params: schedulefree.AdamWScheduleFree(params, lr=0.05),
    "schedulefree-sgd": lambda params: schedulefree.SGDScheduleFree(
        params, lr=0.05, weight_decay=0.1, foreach=False
    ),
}
with contextlib.suppress(ImportError):
    from lion_pytorch import Lion

    INNERS["lion"] = lambda params: Lion(params, lr=0.01, weight_decay=0.1)
if hasattr(torch.optim, "Muon"):
    INNERS["muon"] = lambda params: torch.optim.Muon(params[:1], lr=0.05)
every_inner = pytest.mark.parametrize("inner", INNERS.values(), ids=INNERS)


def diagonal(params, **settings):
    return DiagonalTO(params, lr=0.0, **{"alpha": 0.02, "beta": 0.4, **settings})


def make_params(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (4,), ()]
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def gradients(params, t):
    generator = torch.Generator().manual_seed(100 + t)
    return [
        (p.detach() - 1 + torch.randn(p.shape, generator=generator)).to(p.dtype) for p in params
    ]


def train(optimizer, params, steps, start=0):
    getattr(optimizer, "train", lambda: None)()
    for t in range(start, start + steps):
        for p, g in zip(params, gradients(params, t), strict=True):
            p.grad = g
        optimizer.step()
    return [p.detach().clone() for p in params]


def held(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def same_state(found, expected):
    torch.testing.assert_close(found["state"], expected["state"], rtol=0, atol=0)
    assert str(found["param_groups"]) == str(expected["param_groups"])


def equal(xs, ys):
    return all(torch.equal(x, y) for x, y in zip(xs, ys, strict=True))


@every_inner
def test_without_learning_it_is_the_inner_optimizer_to_the_last_bit(inner):
    params, plain = make_params(), make_params()
    optimizer = inner(params)
    both = Estimated(optimizer, diagonal(held(optimizer), alpha=0.0, beta=1.0))
    assert equal(train(both, params, 6), train(inner(plain), plain, 6))


@every_inner
def test_it_is_the_inner_optimizer_on_the_estimates_of_a_lone_estimator(inner):
    params, plain = make_params(), make_params()
    optimizer = inner(params)
    both = Estimated(optimizer, diagonal(held(optimizer)))
    reference = inner(plain)
    lone = diagonal(held(reference))
    getattr(reference, "train", lambda: None)()
    train(both, params, 6)
    for t in range(6):
        for p, g in zip(plain, gradients(plain, t), strict=True):
            p.grad = g
        lone.learn()
        for p in held(reference):
            p.grad = lone.estimate(p)
        reference.step()
    assert equal(params, plain)


def test_beta_alone_is_the_inner_optimizer_on_averaged_gradients():
    """Against Adam on an exponential average, written in NumPy."""
    mu, lr, eps, b1, b2 = 0.7, 0.05, 1e-8, 0.9, 0.999
    params = make_params(torch.float64)
    optimizer = Estimated(Adam(params, lr=lr), diagonal(params, alpha=0.0, beta=1 - mu))
    w = [p.detach().numpy().copy() for p in params]
    average, m, v = ([np.zeros_like(x) for x in w] for _ in range(3))
    for t in range(8):
        train(optimizer, params, 1, start=t)
        for i, g in enumerate(gradients([torch.tensor(x) for x in w], t)):
            average[i] = mu * average[i] + (1 - mu) * g.numpy()
            m[i] = b1 * m[i] + (1 - b1) * average[i]
            v[i] = b2 * v[i] + (1 - b2) * average[i] ** 2
            root = np.sqrt(v[i] / (1 - b2 ** (t + 1))) + eps
            w[i] = w[i] - lr * m[i] / (1 - b1 ** (t + 1)) / root
    for p, x in zip(params, w, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-9)


@pytest.mark.parametrize("cls", [DiagonalTO, RankOneTO, FullTO])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_gradients_come_back_and_the_inner_one_sees_their_dtype(cls, dtype):
    params = make_params(dtype)
    inner = Adam(params, lr=0.1)
    seen = []
    inner.register_step_pre_hook(lambda *_: seen.extend(p.grad for p in params))
    optimizer = Estimated(inner, cls(params, lr=0.0, alpha=0.02, beta=0.4))
    train(optimizer, params, 2)
    given = gradients(params, 2)
    for p, g in zip(params, given, strict=True):
        p.grad = g
    seen.clear()
    optimizer.step()
    for p, g, used in zip(params, given, seen, strict=True):
        assert p.grad is g
        assert used.dtype == dtype
        assert torch.equal(used, optimizer.estimate(p).to(dtype))
        assert not torch.equal(used, g)


def test_the_estimate_survives_an_inner_optimizer_that_writes_into_gradients():
    params = make_params()
    optimizer = Estimated(INNERS["schedulefree-sgd"](params), diagonal(params))
    lone = diagonal(params)
    optimizer.train()
    for p, g in zip(params, gradients(params, 0), strict=True):
        p.grad = g
    lone.learn()
    optimizer.step()
    assert all(torch.equal(optimizer.estimate(p), lone.estimate(p)) for p in params)


def test_a_parameter_without_a_gradient_is_left_alone():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    before = params[1].detach().clone()
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1], before)
    assert params[1].grad is None
    assert optimizer.memory() == [4 * 4 * 12 + 4]
    with pytest.raises(KeyError, match="no estimate"):
        optimizer.estimate(params[1])


def test_a_closure_is_called_once_and_its_loss_returned():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = sum((p - 1).square().sum() for p in params)
        loss.backward()
        calls.append(loss)
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1
    assert optimizer.residual_norm() > 0
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_hooks_outside_see_g_and_hooks_inside_see_the_estimate():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    seen = {}
    for name, which in (("outer", optimizer), ("inner", optimizer.optimizer)):
        which.register_step_pre_hook(
            lambda *_, name=name: seen.update({name: params[0].grad.clone()})
        )
        which.register_step_post_hook(lambda *_, name=name: seen.update({name + " after": True}))
    train(optimizer, params, 1)
    assert torch.equal(seen["outer"], params[0].grad)
    assert torch.equal(seen["inner"], optimizer.estimate(params[0]))
    assert seen["outer after"]
    assert seen["inner after"]


def test_a_failing_inner_step_leaves_the_gradients():
    params = make_params()
    inner = AdamW(params, lr=0.1)
    optimizer = Estimated(inner, diagonal(params))

    def fail(*_):
        raise RuntimeError("inner")

    inner.register_step_pre_hook(fail)
    given = gradients(params, 0)
    for p, g in zip(params, given, strict=True):
        p.grad = g
    with pytest.raises(RuntimeError, match="inner"):
        optimizer.step()
    assert all(p.grad is g for p, g in zip(params, given, strict=True))


@pytest.mark.parametrize("edit", ["appended", "removed", "replaced", "only in the estimator"])
def test_groups_that_were_edited_get_one_sentence_before_anything_changes(edit):
    params, (new, *_) = make_params(), make_params(seed=1)
    optimizer = Estimated(SGD(params, lr=0.1), diagonal(params))
    train(optimizer, params, 1)
    inner = optimizer.param_groups[0]["params"]
    if edit == "appended":
        inner.append(new)
        sentence = "1 are only in optimizer, 0 only in estimator"
    elif edit == "removed":
        del inner[0]
        sentence = "0 are only in optimizer, 1 only in estimator"
    elif edit == "replaced":
        inner[0] = new
        sentence = "1 are only in optimizer, 1 only in estimator"
    else:
        optimizer.estimator.add_param_group({"params": new})
        sentence = "0 are only in optimizer, 1 only in estimator"
    for p in (*params, new):
        p.grad = torch.ones_like(p)
    before = copy.deepcopy([params, optimizer.estimator.state_dict()])
    with pytest.raises(ValueError, match=sentence):
        optimizer.step()
    with pytest.raises(ValueError, match=sentence):
        optimizer.load_state_dict({"param_groups": [{"estimator": []}], "state": {}})
    assert equal(params, before[0])
    same_state(optimizer.estimator.state_dict(), before[1])


def test_groups_that_were_edited_alike_go_on():
    params = make_params()
    optimizer = Estimated(SGD(params, lr=0.1), diagonal(params))
    train(optimizer, params, 1)
    new = torch.nn.Parameter(torch.ones(2))
    for which in (optimizer, optimizer.estimator):
        which.param_groups[0]["params"][0] = new
    train(optimizer, [new, *params[1:]], 1, start=1)
    assert not torch.equal(new, torch.ones(2))


def test_a_sparse_gradient_changes_nothing():
    params = make_params()
    optimizer = Estimated(SGD(params, lr=0.1), diagonal(params))
    before = [p.detach().clone() for p in params]
    params[0].grad = torch.ones_like(params[0]).to_sparse()
    with pytest.raises(TypeError, match="sparse"):
        optimizer.step()
    assert equal(params, before)
    assert optimizer.memory() == [0]


@every_inner
@pytest.mark.parametrize("estimator", [DiagonalTO, RankOneTO, FullTO])
def test_resume_is_bit_for_bit(inner, estimator, tmp_path):
    def make():
        params = make_params(torch.bfloat16 if inner is INNERS["adamw"] else torch.float32)
        optimizer = inner(params)
        half = held(optimizer)[:1]
        rest = held(optimizer)[1:]
        groups = [{"params": half, "beta": 0.3}, *([{"params": rest}] if rest else [])]
        learner = estimator(groups, lr=0.0, alpha=InverseTime(c=1.0, mu=20.0), beta=0.5)
        return params, Estimated(optimizer, learner)

    params, optimizer = make()
    train(optimizer, params, 4)
    torch.save([params, optimizer.state_dict()], tmp_path / "checkpoint")
    expected = train(optimizer, params, 4, start=4)

    again, resumed = make()
    saved, state = torch.load(tmp_path / "checkpoint")
    with torch.no_grad():
        for p, s in zip(again, saved, strict=True):
            p.copy_(s)
    resumed.load_state_dict(state)
    assert equal(train(resumed, again, 4, start=4), expected)


def test_copies_go_on_alike():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    train(optimizer, params, 3)
    copies = [copy.deepcopy([params, optimizer]), pickle.loads(pickle.dumps([params, optimizer]))]
    expected = train(optimizer, params, 3, start=3)
    for others, twin in copies:
        assert held(twin)[0] is others[0]
        assert equal(train(twin, others, 3, start=3), expected)


def test_state_dict_hooks_are_called():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    called = []
    optimizer.register_state_dict_pre_hook(lambda _: called.append("save"))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "mine": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, given: called.append(given["mine"]))
    optimizer.register_load_state_dict_post_hook(lambda _: called.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert called == ["save", 1, "loaded"]


def test_distributed_checkpoint_round_trip():
    def make():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        decayed = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() == 1]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        return model, Estimated(AdamW(groups, lr=0.1), diagonal(model.parameters()))

    model, optimizer = make()
    train(optimizer, list(model.parameters()), 3)
    weights, state = dcp.get_state_dict(model, optimizer)
    assert set(state["state"]["0.weight"]) >= {"exp_avg", "estimator.a", "estimator.b"}
    weights, state = copy.deepcopy((weights, state))
    expected = train(optimizer, list(model.parameters()), 3, start=3)
    again, resumed = make()
    dcp.set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    assert equal(train(resumed, list(again.parameters()), 3, start=3), expected)


@pytest.fixture
def alone(tmp_path):
    """A process group of one process."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("estimator", [DiagonalTO, RankOneTO])
def test_sharded_parameters(estimator, alone):
    """FSDP2: the numbers of the plain model, and a checkpoint that continues bit for bit."""
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))

    def make(sharded):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        if sharded:
            fsdp.fully_shard(model, mesh=alone)
        # A DTensor has no kernel: the same arithmetic for both, to the last bit.
        learner = estimator(model.parameters(), lr=0.0, alpha=0.02, beta=0.5, fused=False)
        return model, Estimated(AdamW(model.parameters(), lr=0.1), learner)

    def run(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        weights = [getattr(p, "full_tensor", lambda p=p: p)() for p in model.parameters()]
        return [w.detach().clone() for w in weights]

    model, optimizer = make(sharded=True)
    assert equal(run(model, optimizer), run(*make(sharded=False)))
    assert monitor(optimizer)["norm_A"] > 0
    weights, state = copy.deepcopy(dcp.get_state_dict(model, optimizer))
    again, resumed = make(sharded=True)
    dcp.set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state)
    assert equal(run(model, optimizer), run(again, resumed))


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
@pytest.mark.parametrize("capturable", [False, True])
def test_the_dummy_step_of_distributed_checkpoint_leaves_a_fresh_one_as_it_was(lr, capturable):
    model = torch.nn.Linear(3, 2)
    params = list(model.parameters())
    schedule = InverseTime(c=1.0, mu=4.0)
    estimator = diagonal(params, alpha=schedule, beta=schedule, capturable=capturable)
    optimizer = Estimated(SGD(params, lr=lr), estimator)
    twin = copy.deepcopy(model)
    learner = diagonal(twin.parameters(), alpha=schedule, beta=schedule, capturable=capturable)
    reference = Estimated(SGD(twin.parameters(), lr=lr), learner)
    dcp.get_optimizer_state_dict(model, optimizer)
    assert estimator.param_groups[0]["step"] == 0
    assert not any(value.any() for p in params for value in estimator.state[p].values())
    expected = train(reference, list(twin.parameters()), 4)
    assert equal(train(optimizer, params, 4), expected)
    assert estimator.param_groups[0]["step"] == 4


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("real_steps", [1, 2])
def test_a_clock_that_runs_is_not_set_back_by_a_step_at_lr_0(lr, capturable, real_steps):
    """A step without gradients isn't counted, one with them is."""
    params = make_params()
    optimizer = Estimated(SGD(params, lr=0.1), diagonal(params, capturable=capturable))
    train(optimizer, params, real_steps)
    optimizer.param_groups[0]["lr"] = lr
    clock = optimizer.estimator.param_groups[0]["step"]
    optimizer.zero_grad()
    optimizer.step()
    assert clock == real_steps
    train(optimizer, params, 1)
    assert clock == real_steps + 1


def test_an_inner_lr_may_be_a_schedule_none_or_a_numpy_number():
    """Plain SGD with the rates written into its group is the reference: e = g at α = 0, β = 1."""
    params, plain = make_params(), make_params()
    inner = DiagonalTO(params, lr=InverseTime(0.5, 2.0), alpha=0.0, beta=1.0)
    optimizer = Estimated(inner, diagonal(params, alpha=0.0, beta=1.0))
    reference = SGD(plain, lr=0.1)
    for t in range(3):
        train(optimizer, params, 1, start=t)
        reference.param_groups[0]["lr"] = 0.5 / (t + 2)
        train(reference, plain, 1, start=t)
    for p, q in zip(params, plain, strict=True):
        torch.testing.assert_close(p, q)
    for lr, moves in ((None, True), (np.float64(0.1), True), (np.float32(0.0), False)):
        fresh = make_params()
        lone = SGD(fresh, lr=0.1)
        lone.step = lambda: None  # SGD itself can't step along no lr
        both = Estimated(lone, diagonal(fresh))
        lone.param_groups[0]["lr"] = lr
        train(both, fresh, 1)
        assert both.estimator.param_groups[0]["step"] == moves


def test_schedulers_and_scalers_see_the_inner_groups():
    params = make_params()
    optimizer = Estimated(SGD(params, lr=0.1), diagonal(params))
    assert isinstance(optimizer, torch.optim.Optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    train(optimizer, params, 1)
    scheduler.step()
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.05
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.zeros(()))
    for value, clock in ((torch.inf, 1), (4.0, 2)):
        before = params[0].detach().clone()
        for p in params:
            p.grad = torch.full_like(p, value)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update(4.0)
        assert optimizer.estimator.param_groups[0]["step"] == clock
        assert torch.equal(params[0], before) == (clock == 1)
    assert torch.equal(params[0].grad, torch.ones_like(params[0]))


def test_a_scheduler_that_cycles_momentum_cycles_that_of_the_inner_optimizer():
    """One cycle of 10 steps: β₁ from 0.95 down to 0.85 at its peak, which is step 2."""
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, total_steps=10)
    for _ in range(2):
        train(optimizer, params, 1)
        cycle.step()
    (group,) = optimizer.optimizer.param_groups
    assert (group["lr"], group["betas"][0]) == pytest.approx((0.4, 0.85))


def test_add_param_group_reaches_both_or_neither():
    params, late = make_params(), make_params(seed=1)
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": params[0]})
    assert len(optimizer.estimator.param_groups) == 1
    names = [(f"late.{i}", p) for i, p in enumerate(late)]
    with pytest.raises(ValueError, match="names"):  # the inner one was made without
        optimizer.add_param_group({"params": names})
    with pytest.raises(TypeError, match="set"):
        optimizer.add_param_group({"params": set(late)})
    assert [len(o.param_groups) for o in (optimizer, optimizer.estimator)] == [1, 1]
    optimizer.add_param_group({"params": late, "lr": 0.01})
    train(optimizer, [*params, *late], 2)
    assert optimizer.param_groups[1]["lr"] == 0.01
    assert len(optimizer.memory()) == 2
    assert optimizer.estimate(late[0]).shape == late[0].shape


def test_add_param_group_takes_names_where_the_inner_optimizer_has_them():
    params, late = make_params(), make_params(seed=1)
    named = [(f"early.{i}", p) for i, p in enumerate(params)]
    optimizer = Estimated(AdamW(named, lr=0.1), diagonal(params))
    optimizer.add_param_group({"params": [(f"late.{i}", p) for i, p in enumerate(late)]})
    assert optimizer.param_groups[1]["param_names"] == ["late.0", "late.1", "late.2"]
    before = late[0].detach().clone()
    train(optimizer, [*params, *late], 1)
    assert not torch.equal(late[0], before)


def test_schedule_free_modes_pass_through():
    params = make_params()
    optimizer = Estimated(INNERS["schedulefree"](params), diagonal(params))
    trained = train(optimizer, params, 3)
    optimizer.eval()
    assert not equal(params, trained)
    optimizer.train()
    for p, w in zip(params, trained, strict=True):
        torch.testing.assert_close(p.detach(), w)
    Estimated(SGD(params, lr=0.1), diagonal(params)).eval()


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda ps: ("adamw", diagonal(ps)), TypeError, "optimizer is a str: give a torch"),
        (
            lambda ps: (SGD(ps, 0.1), SGD(ps, 0.1)),
            TypeError,
            "estimator is a SGD: give an Estimator",
        ),
        (lambda ps: (torch.optim.LBFGS(ps), diagonal(ps)), TypeError, "LBFGS evaluates the model"),
        (
            lambda ps: (SGD(ps, 0.1), diagonal(ps[:2])),
            ValueError,
            "the same parameters: 1 are only in optimizer, 0 only in estimator",
        ),
        (lambda ps: (SGD(ps, 0.1), diagonal(ps, maximize=True)), ValueError, "maximize=True to op"),
    ],
)
def test_bad_input_gets_one_sentence(make, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        Estimated(*make(make_params()))


def test_a_state_dict_that_does_not_fit_changes_nothing():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    train(optimizer, params, 2)
    before = copy.deepcopy(optimizer.state_dict())
    other = make_params(seed=3)
    two = Estimated(AdamW(other, lr=0.1), diagonal([{"params": p} for p in other]))
    rank = Estimated(AdamW(other, lr=0.1), RankOneTO(other, lr=0.0))
    fewer = Estimated(AdamW(other[:2], lr=0.1), diagonal(other[:2]))
    train(rank, other, 1)
    for state, sentence in (
        (AdamW(params).state_dict(), "holds no estimator"),
        (two.state_dict(), r"groups of \[1, 1, 1\] parameters, the optimizer has \[3\]"),
        (fewer.state_dict(), r"groups of \[2\] parameters, the optimizer has \[3\]"),
        (rank.state_dict(), r"DiagonalTO holds \['a', 'b'\]: load it into the"),
    ):
        with pytest.raises(ValueError, match=sentence):
            optimizer.load_state_dict(state)
    same_state(optimizer.state_dict(), before)


@pytest.mark.parametrize("estimator", [DiagonalTO, RankOneTO, FullTO])
def test_a_state_of_other_shapes_changes_nothing(estimator):
    """Adam would take it: torch compares sizes of groups, not of tensors."""
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), estimator(params, lr=0.0))
    train(optimizer, params, 2)
    before = copy.deepcopy(optimizer.state_dict())
    larger = [torch.nn.Parameter(torch.ones(s)) for s in ((5, 3), (5,), ())]
    other = Estimated(AdamW(larger, lr=0.2), estimator(larger, lr=0.0))
    train(other, larger, 1)
    with pytest.raises(ValueError, match=r"shape.*\(5, 3\)|shape \(15, 21\)"):
        optimizer.load_state_dict(other.state_dict())
    same_state(optimizer.state_dict(), before)


def test_what_the_inner_optimizer_refuses_is_loaded_into_neither():
    params = make_params()
    optimizer = Estimated(AdamW(params, lr=0.1), diagonal(params))
    train(optimizer, params, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    train(optimizer, params, 1)
    before = copy.deepcopy(optimizer.state_dict())

    def refuse(*_):
        raise RuntimeError("refused")

    for register in (
        optimizer.optimizer.register_load_state_dict_pre_hook,
        optimizer.optimizer.register_load_state_dict_post_hook,
    ):
        handle = register(refuse)
        with pytest.raises(RuntimeError, match="refused"):
            optimizer.load_state_dict(saved)
        handle.remove()
        same_state(optimizer.state_dict(), before)
    train(optimizer, params, 1)
    optimizer.load_state_dict(saved)
    same_state(optimizer.state_dict(), saved)


def test_a_compiled_step_is_the_step():
    """The numbers of the step that isn't compiled, and the estimate and residual of the last."""
    found = []
    for compiled in (False, True):
        params = make_params()
        optimizer = Estimated(AdamW(params, lr=0.05), diagonal(params))
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for t in range(3):
            optimizer.zero_grad()
            for p, g in zip(params, gradients(params, t), strict=True):
                p.grad = g
            step()
        found.append(
            (params, [optimizer.estimate(p) for p in params], float(optimizer.residual_norm()))
        )
    torch.testing.assert_close(*found)


def test_gradients_flow_through_a_differentiable_step():
    """After one step from A = b = 0, e = g and Ĝ = β g + α g w², so that ∂w/∂β = −lr g."""
    beta = torch.tensor(0.5, requires_grad=True)
    w = torch.ones(2, requires_grad=True).clone()
    optimizer = Estimated(
        SGD([w], lr=0.1, differentiable=True), diagonal([w], beta=beta, differentiable=True)
    )
    w.grad = torch.tensor([1.0, 2.0])
    optimizer.step()
    w.sum().backward()
    torch.testing.assert_close(beta.grad, torch.tensor(-0.3))


def test_what_it_prints():
    params = make_params()
    text = repr(Estimated(SGD(params, lr=0.1), diagonal(params)))
    assert text.startswith("Estimated(SGD")
    assert "DiagonalTO" in text
