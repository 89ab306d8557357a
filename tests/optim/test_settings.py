"""Bad settings: one sentence that names the parameter and its value, before anything changes."""

import dataclasses
import pickle

import pytest
import torch
from common import VARIANTS, make_params

from trainopt import Constant, DiagonalTO, Exponential, FullTO, InverseTime, RankOneTO
from trainopt import memory as memory_module
from trainopt.memory import available_bytes, human_bytes

BAD = [
    ({"lr": -0.1}, ValueError, r"lr=-0\.1"),
    ({"lr": float("nan")}, ValueError, "lr=nan"),
    ({"alpha": float("inf")}, ValueError, "alpha=inf"),
    ({"beta": -1}, ValueError, "beta=-1"),
    ({"beta": "0.5"}, TypeError, "beta='0.5'"),
    ({"lr": True}, TypeError, "lr=True"),
    ({"lr": None}, TypeError, "lr=None"),
    ({"weight_decay": -1e-3}, ValueError, r"weight_decay=-0\.001"),
    ({"lr": torch.ones(2)}, ValueError, r"Tensor lr must be .* of shape \(2,\)"),
    ({"alpha": torch.tensor(1)}, ValueError, "Tensor alpha must be .* torch.int64"),
    ({"alpha": torch.tensor(-1.0)}, ValueError, r"alpha=-1\.0"),
    ({"beta": torch.tensor(0.1, device="meta")}, ValueError, "beta is a tensor on meta"),
    ({"state_dtype": torch.int8}, TypeError, "state_dtype=torch.int8"),
]


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_refused_by_name_and_value(cls, settings, error, message):
    with pytest.raises(error, match=message):
        cls(make_params(), **{"lr": 0.1, **settings})
    optimizer = cls(make_params(), lr=0.1)
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": make_params(), **settings})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("cls", [FullTO, RankOneTO])
def test_scope(cls):
    with pytest.raises(ValueError, match="scope='layer' is not known"):
        cls(make_params(), lr=0.1, scope="layer")


def test_init():
    with pytest.raises(ValueError, match="init='zeros' is not known"):
        RankOneTO(make_params(), lr=0.1, init="zeros")


@pytest.mark.parametrize("cls", [DiagonalTO, RankOneTO])
@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_fused_excludes(cls, other):
    with pytest.raises(ValueError, match="fused=True"):
        cls(make_params(), lr=0.1, fused=True, **{other: True})


@pytest.mark.parametrize("cls", VARIANTS)
def test_sparse_gradients_change_nothing(cls):
    params = make_params(shapes=((3,), (4, 2)))
    optimizer = cls(params, lr=0.1)
    params[0].grad = torch.ones_like(params[0])
    params[1].grad = torch.ones_like(params[1]).to_sparse()
    before = [p.detach().clone() for p in params]
    with pytest.raises(TypeError, match=r"shape \(4, 2\) is sparse"):
        optimizer.step()
    assert all(map(torch.equal, params, before))
    assert not optimizer.state
    assert optimizer.param_groups[0]["step"] == 0


def test_full_refuses_what_does_not_fit(monkeypatch):
    monkeypatch.setattr("trainopt.optim.full.available_bytes", lambda _: 10_000)
    params = [torch.nn.Parameter(torch.zeros(60)), torch.nn.Parameter(torch.zeros(40))]
    with pytest.raises(MemoryError, match=r"40000 bytes .* d = 100 .*RankOneTO or DiagonalTO"):
        FullTO(params, lr=0.1)
    FullTO(params, lr=0.1, check_memory=False)
    with pytest.raises(MemoryError, match="20800 bytes"):
        FullTO(params, lr=0.1, scope="tensor")
    small = FullTO(params[1:], lr=0.1)
    with pytest.raises(MemoryError, match="20800 bytes"):  # what is promised counts
        small.add_param_group({"params": params[:1]})
    assert len(small.param_groups) == 1


def test_full_refuses_a_real_size_before_it_allocates():
    if available_bytes(torch.device("cpu")) is None:
        pytest.skip("this system does not say how much memory it has")
    with pytest.raises(MemoryError, match="d = 10000000 weights"):
        FullTO([torch.nn.Parameter(torch.zeros(10_000_000))], lr=0.1)


def test_full_never_allocates_a_second_matrix():
    p = torch.nn.Parameter(torch.zeros(2000))
    p.grad = torch.ones(2000)
    optimizer = FullTO([p], lr=0.1)
    optimizer.step()
    with torch.profiler.profile(profile_memory=True) as profile:
        optimizer.step()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < 2000 * 4 * 10


def test_available_bytes(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable:   5 kB\n")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory_module._meminfo(tmp_path / "meminfo") == 5 * 1024
    assert memory_module._control_group(tmp_path) == 600
    assert memory_module._meminfo(tmp_path / "none") is None
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_module._control_group(tmp_path) is None
    assert available_bytes(torch.device("meta")) is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (80_080, "80.1 kB"), (400_800_400, "400.8 MB"), (4e15, "4.0 PB")],
)
def test_human_bytes(count, text):
    assert human_bytes(count) == text


SCHEDULES = [Constant(0.3), InverseTime(2.0, 5.0), Exponential(0.5, 0.9, every=4)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_frozen_picklable_functions_of_t(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule)) == schedule
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, dataclasses.fields(schedule)[0].name, 1.0)
    for t in (0, 1, 3, 4, 100):
        on_tensor = schedule(torch.tensor(float(t), dtype=torch.float64))
        assert float(on_tensor) == pytest.approx(schedule(float(t)), rel=1e-14)


def test_schedule_values():
    assert Constant(0.3)(9.0) == 0.3
    assert InverseTime(2.0, 5.0)(5.0) == 0.2
    decay = Exponential(0.5, 0.1, every=4)
    assert [decay(t) for t in (0, 3, 4, 8)] == pytest.approx([0.5, 0.5, 0.05, 0.005])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1.0), "value=-1.0"),
        (lambda: InverseTime(1.0, 0.0), "mu=0.0"),
        (lambda: InverseTime(float("nan")), "c=nan"),
        (lambda: Exponential(1.0, 0.0), "factor=0.0"),
        (lambda: Exponential(1.0, 0.5, every=0), "every=0"),
        (lambda: Exponential(1.0, 0.5, every=1.5), "every=1.5"),
    ],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()
