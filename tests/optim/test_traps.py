"""Three traps of torch that have bitten third-party optimizers."""

import copy
import io
import pickle

import pytest
import torch
import torch._dynamo.testing
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
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from trainopt import Exponential, InverseTime


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_state_of_a_bfloat16_parameter_survives_loading_bit_for_bit(cls, extra):
    params = make_params(torch.bfloat16)
    saved = cls(params, lr=0.1, beta=0.3, **extra)
    train(saved, params, 5)
    loaded = cls(clone_params(params), lr=0.1, beta=0.3, **extra)
    loaded.load_state_dict(state_of(saved))
    for p, q in zip(params, loaded.param_groups[0]["params"], strict=True):
        for name, value in saved.state[p].items():
            assert loaded.state[q][name].dtype == torch.float32
            assert torch.equal(loaded.state[q][name], value)


@pytest.mark.parametrize("cls", VARIANTS)
def test_the_state_dtype_of_the_new_parameters_holds(cls):
    params = make_params(torch.float32)
    saved = cls(params, lr=0.1)
    train(saved, params, 3)
    doubles = [torch.nn.Parameter(p.detach().double()) for p in params]
    loaded = cls(doubles, lr=0.1)
    loaded.load_state_dict(saved.state_dict())
    assert all(x.dtype == torch.float64 for s in loaded.state.values() for x in s.values())
    train(loaded, doubles, 3, start=3)
    assert_same(
        [p.float() for p in doubles], train(saved, params, 3, start=3), rtol=1e-4, atol=1e-5
    )


def test_loading_leaves_the_saved_dict_alone_and_hooks_see_the_final_state():
    cls, extra = SETTINGS[2]
    params = make_params(torch.bfloat16)
    saved = cls(params, lr=0.1, **extra)
    train(saved, params, 3)
    state_dict = saved.state_dict()
    loaded = cls(clone_params(params), lr=0.1, **extra)
    seen = []
    loaded.register_load_state_dict_pre_hook(lambda _, sd: {**sd, "extra": 1})
    loaded.register_load_state_dict_post_hook(
        lambda opt: seen.extend(x.dtype for s in opt.state.values() for x in s.values())
    )
    loaded.load_state_dict(state_dict)
    assert set(seen) == {torch.float32}
    train(loaded, loaded.param_groups[0]["params"], 2)
    assert torch.equal(state_dict["state"][0]["b"], saved.state[params[0]]["b"])


@pytest.mark.parametrize("cls", VARIANTS)
def test_state_of_another_variant_is_refused_whole(cls):
    params = make_params()
    other = next(v for v in VARIANTS if v is not cls)
    saved = other(params, lr=0.5)
    train(saved, params, 2)
    mine = cls(clone_params(params), lr=0.1)
    with pytest.raises(ValueError, match="variant that saved it"):
        mine.load_state_dict(saved.state_dict())
    assert not mine.state
    assert mine.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1), InverseTime(1.0, 10.0)])
def test_the_dummy_step_of_distributed_checkpoint_is_inert(cls, extra, lr):
    model = torch.nn.Linear(3, 2).double()
    fresh = cls(model.parameters(), lr=lr, weight_decay=0.1, alpha=Exponential(0.1, 0.5), **extra)
    before = [p.detach().clone() for p in model.parameters()]
    get_optimizer_state_dict(model, fresh)
    assert fresh.param_groups[0]["step"] == 0
    assert fresh.param_groups[0]["lr"] is lr or fresh.param_groups[0]["lr"] == lr
    assert_same(list(model.parameters()), before)
    for p in model.parameters():
        d = 8 if extra.get("scope") == "group" else p.numel()
        for name, value in fresh.state[p].items():
            start = d**-0.5 if name == "c" else 0.0
            assert torch.equal(value, torch.full_like(value, start))


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize("make_lr", [lambda: 0.05, lambda: torch.tensor(0.05)])
def test_distributed_checkpoint_resumes_bit_for_bit(cls, make_lr):
    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2).double()
        return model, cls(model.parameters(), lr=make_lr(), alpha=Exponential(0.1, 0.9), beta=0.5)

    model, optimizer = fresh()
    params = list(model.parameters())
    train(optimizer, params, 5)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    weights = copy.deepcopy(model.state_dict())
    expected = train(optimizer, params, 5, start=5)
    resumed_model, resumed = fresh()
    resumed_model.load_state_dict(weights)
    set_optimizer_state_dict(resumed_model, resumed, saved)
    assert_same(train(resumed, list(resumed_model.parameters()), 5, start=5), expected)


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_changing_tensor_rates_does_not_recompile(cls, extra):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    params, plain = make_params(), make_params()
    rates = {name: torch.tensor(0.1, dtype=torch.float64) for name in ("lr", "alpha", "beta")}
    optimizer = cls(params, **rates, **extra)
    reference = cls(plain, **{k: v.clone() for k, v in rates.items()}, **extra)
    compiled = torch.compile(optimizer.step, backend=counter)
    frames = []
    for t in range(6):
        for opt, ps in ((optimizer, params), (reference, plain)):
            fill_grads(ps, t)
            for name in rates:
                opt.param_groups[0][name].fill_(0.1 / (t + 1))
            compiled() if opt is optimizer else opt.step()
        frames.append(counter.frame_count)
    assert frames[-1] == frames[1] > 0
    assert_same(params, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cls", VARIANTS)
def test_schedules_do_not_recompile(cls):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    params, plain = make_params(), make_params()
    settings = {"lr": InverseTime(1.0, 10.0), "alpha": Exponential(0.01, 0.9, every=2)}
    compiled = torch.compile(cls(params, **settings).step, backend=counter)
    reference = cls(plain, **settings)
    frames = []
    for t in range(6):
        fill_grads(params, t)
        compiled()
        frames.append(counter.frame_count)
        fill_grads(plain, t)
        reference.step()
    assert frames[-1] == frames[1] > 0
    assert_same(params, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("cls", VARIANTS)
def test_resume_from_a_file_with_schedules_is_bit_for_bit(cls, weights_only):
    settings = {"lr": InverseTime(1.0, 10.0), "alpha": Exponential(0.01, 0.9, 3), "beta": 0.5}
    params = make_params()
    optimizer = cls(params, **settings)
    train(optimizer, params, 7)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    copied = clone_params(params)
    expected = train(optimizer, params, 7, start=7)
    resumed = cls(copied, lr=0.7)  # its settings come from the file
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=weights_only))
    assert resumed.param_groups[0]["lr"] == settings["lr"]
    assert_same(train(resumed, copied, 7, start=7), expected)


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_deepcopy_and_pickle(cls, clone):
    params = make_params()
    optimizer = cls(params, lr=InverseTime(1.0, 10.0), beta=0.5)
    train(optimizer, params, 4)
    twin = clone(optimizer)
    twins = twin.param_groups[0]["params"]
    assert_same(train(twin, twins, 4, start=4), train(optimizer, params, 4, start=4))
    with pytest.raises(KeyError):
        clone(optimizer).estimate(params[0])
