"""Bad settings: one sentence that names the parameter and its value, before anything changes."""

import copy
import dataclasses
import io
import pickle

import numpy as np
import pytest
import torch
from common import VARIANTS, assert_same, make_params, train

from trainopt import (
    Constant,
    Cosine,
    DiagonalTO,
    Exponential,
    FullTO,
    InverseTime,
    RankOneTO,
    Schedule,
)
from trainopt import memory as memory_module
from trainopt.memory import available_bytes, human_bytes
from trainopt.settings import rate_at

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
    monkeypatch.setattr("trainopt.optim.checks.available_bytes", lambda _: 10_000)
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


SCHEDULES = [
    Constant(0.3),
    InverseTime(2.0, 5.0),
    Exponential(0.5, 0.9, every=4),
    Cosine(0.5, 8.0, 0.1),
]


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
    wave = Cosine(0.5, 8, end=0.1)
    assert [wave(t) for t in (0, 4, 8, 99)] == pytest.approx([0.5, 0.3, 0.1, 0.1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1.0), "value=-1.0"),
        (lambda: InverseTime(1.0, 0.0), "mu=0.0"),
        (lambda: InverseTime(float("nan")), "c=nan"),
        (lambda: Exponential(1.0, 0.0), "factor=0.0"),
        (lambda: Cosine(1.0, 0), "steps=0"),
        (lambda: Cosine(1.0, 9, end=-0.1), "end=-0.1"),
        (lambda: Exponential(1.0, 0.5, every=0), "every=0"),
        (lambda: Exponential(1.0, 0.5, every=1.5), "every=1.5"),
    ],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_growing_exponential_ends_in_infinity():
    """With a float as with a tensor; one that starts at 0 stays there."""
    grows = Exponential(1e-3, 1.01)
    assert grows(10.0) == pytest.approx(1e-3 * 1.01**10)
    for t in (1e6, torch.tensor(1e6, dtype=torch.float64)):
        assert grows(t) == float("inf")
        assert Exponential(0.0, 1.01)(t) == 0


class Outer:
    @dataclasses.dataclass(frozen=True)
    class Nested(Schedule):
        peak: float
        then: Schedule = dataclasses.field(default_factory=lambda: InverseTime(1.0, 3.0))

        def __call__(self, t):
            return self.peak * np.cos(0.1 * float(t))

    @dataclasses.dataclass(frozen=True, slots=True)
    class Slots(Nested):
        after: int = 5


class NoDataclass(Schedule):
    __slots__ = ("peak",)

    def __init__(self, peak):
        self.peak = peak

    def __call__(self, t):
        return self.peak

    def __eq__(self, other):
        return self.peak == other.peak

    __hash__ = None


def local_class(factor=1.0):
    @dataclasses.dataclass(frozen=True)
    class Local(Schedule):
        peak: float

        def __call__(self, t):
            return factor * self.peak

    return Local


def through_a_file(value):
    """As Accelerate, Lightning and Trainer keep it."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("schedule", [Outer.Nested(0.25), Outer.Slots(0.5), NoDataclass(0.125)])
def test_a_schedule_of_ones_own_is_loaded(schedule):
    params = make_params()
    optimizer = DiagonalTO(params, lr=schedule)
    train(optimizer, params, 2)
    saved = through_a_file([optimizer.state_dict(), [p.detach() for p in params]])
    again = [torch.nn.Parameter(p) for p in saved[1]]
    resumed = DiagonalTO(again, lr=0.1)
    resumed.load_state_dict(saved[0])
    (group,) = resumed.param_groups
    assert type(group["lr"]) is type(schedule)
    assert group["lr"] == schedule
    assert_same(train(resumed, again, 2, start=2), train(optimizer, params, 2, start=2))
    assert type(copy.deepcopy(schedule)) is type(schedule)


def test_the_latest_class_of_a_name_is_loaded():
    """A cell of a notebook runs again; a script defines its schedule in a function."""
    first, second = local_class(1.0), local_class(2.0)
    loaded = through_a_file(first(0.5))
    assert type(loaded) is second
    assert loaded(0) == 1.0
    assert copy.deepcopy(first(0.5))(0) == 0.5


def test_a_class_that_is_not_there_gets_one_sentence():
    class Vanished(Schedule):
        def __call__(self, t):
            return 0.5

    file = io.BytesIO()
    torch.save(Vanished(), file)
    file.seek(0)
    Vanished.__qualname__ = "Renamed"
    with pytest.raises(AttributeError, match=r"a schedule test_settings\..*Vanished, which isn't"):
        torch.load(file, weights_only=True)


def test_checkpoints_name_our_classes_either_way():
    """Those of earlier versions hold the class itself; those of NumPy settings hold floats."""

    class Saved:
        def __reduce__(self):
            return InverseTime, (2.0, 5.0)

    assert through_a_file(Saved()) == InverseTime(2.0, 5.0)
    for schedule in (
        Constant(np.float64(0.25)),
        InverseTime(np.float32(2.0), np.int64(5)),
        Exponential(np.float64(0.5), np.float64(0.5), every=np.int64(4)),
    ):
        assert through_a_file(schedule) == schedule


NUMBER_LIKE = {
    "lr * 2": lambda lr: lr * 2,
    "2 * lr": lambda lr: 2 * lr,
    "np * lr": lambda lr: np.float64(2) * lr,
    "tensor * lr": lambda lr: torch.ones(2) * lr,
    "lr / 2": lambda lr: lr / 2,
    "2 / lr": lambda lr: 2 / lr,
    "lr // 2": lambda lr: lr // 2,
    "2 // lr": lambda lr: 2 // lr,
    "lr % 2": lambda lr: lr % 2,
    "2 % lr": lambda lr: 2 % lr,
    "lr + 2": lambda lr: lr + 2,
    "sum": lambda lr: sum([lr]),
    "lr - 2": lambda lr: lr - 2,
    "2 - lr": lambda lr: 2 - lr,
    "lr ** 2": lambda lr: lr**2,
    "2 ** lr": lambda lr: 2**lr,
    "-lr": lambda lr: -lr,
    "+lr": lambda lr: +lr,
    "abs": abs,
    "float": float,
    "int": int,
    "round": round,
    "max": lambda lr: max(lr, 0.1),
    "min": lambda lr: min(lr, 0.1),
    "<=": lambda lr: lr <= 0.1,
    ">=": lambda lr: lr >= 0.1,
}
scheduler = torch.optim.lr_scheduler


@pytest.mark.parametrize("use", NUMBER_LIKE.values(), ids=NUMBER_LIKE)
@pytest.mark.parametrize("schedule", [InverseTime(1.0), NoDataclass(1.0)])
def test_a_schedule_used_as_a_number_says_what_to_do(use, schedule):
    with pytest.raises(TypeError, match="is a schedule, not a number: give a float lr"):
        use(schedule)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: scheduler.LambdaLR(o, lambda _: 0.5),
        lambda o: scheduler.MultiplicativeLR(o, lambda _: 0.5),
        lambda o: scheduler.StepLR(o, 1),
        scheduler.ConstantLR,
        scheduler.LinearLR,
        lambda o: scheduler.ExponentialLR(o, 0.5),
        lambda o: scheduler.CosineAnnealingLR(o, 5),
        lambda o: scheduler.CosineAnnealingWarmRestarts(o, 5),
        lambda o: scheduler.PolynomialLR(o, 5),
        lambda o: scheduler.SequentialLR(o, [scheduler.LinearLR(o), scheduler.StepLR(o, 1)], [2]),
        lambda o: scheduler.ReduceLROnPlateau(o, patience=0),
        lambda o: torch.optim.swa_utils.SWALR(o, 0.05),
    ],
)
def test_a_scheduler_on_a_schedule_says_what_to_do(make):
    params = make_params()
    optimizer = DiagonalTO(params, lr=InverseTime(1.0, 10.0))
    losses = iter([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="is a schedule, not a number: give a float lr"):  # noqa: PT012
        schedule = make(optimizer)
        while True:
            train(optimizer, params, 1)
            plateau = isinstance(schedule, scheduler.ReduceLROnPlateau)
            schedule.step(*([next(losses)] if plateau else []))


@pytest.mark.parametrize(
    ("make", "rate"),
    [
        # 0.4 after 30 % of the steps, from 0.4 / 25, by half a cosine
        (lambda o, **k: scheduler.OneCycleLR(o, 0.4, total_steps=10, **k), 0.4),
        (lambda o, **k: scheduler.CyclicLR(o, 0.1, 0.3, step_size_up=4, **k), 0.2),
    ],
)
def test_schedulers_that_cycle_momentum_need_to_be_told_that_there_is_none(make, rate):
    params = make_params()
    with pytest.raises(ValueError, match="cycle_momentum"):
        make(DiagonalTO(params, lr=0.1))
    optimizer = DiagonalTO(params, lr=0.1, alpha=0.0, beta=1.0)
    schedule = make(optimizer, cycle_momentum=False)
    for _ in range(2):
        train(optimizer, params, 1)
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    before = [p.detach().clone() for p in params]
    train(optimizer, params, 1)
    for p, old in zip(params, before, strict=True):  # α = 0, β = 1: SGD
        torch.testing.assert_close(p.detach(), old - rate * p.grad)


NUMPY = [np.float64(0.25), np.float32(0.25), np.float16(0.25)]


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("number", NUMPY, ids=lambda x: x.dtype.name)
def test_numpy_numbers_are_rates(cls, foreach, number):
    """At the start, and when a scheduler writes them: as with the float."""
    found = []
    for value in (0.25, number):
        params = make_params()
        optimizer = cls(params, lr=value, alpha=value, beta=value, foreach=foreach)
        train(optimizer, params, 2)
        for name in ("lr", "alpha", "beta"):
            optimizer.param_groups[0][name] = 2 * value
        found.append(train(optimizer, params, 2, start=2))
    assert_same(*found)


def test_a_cosine_of_numpy_is_the_cosine_of_sgd():
    """LambdaLR with `np.cos`, which makes np.float64 of lr; and a whole number, np.int64."""
    found = []
    for cls, settings in ((DiagonalTO, {"alpha": 0.0, "beta": 1.0}), (torch.optim.SGD, {})):
        params = make_params()
        optimizer = cls(params, lr=0.1, **settings)
        cosine = scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + np.cos(np.pi * t / 4)))
        for t in range(3):
            train(optimizer, params, 1, start=t)
            cosine.step()
        found.append(params)
    assert_same(*found, rtol=1e-12, atol=1e-12)
    whole = DiagonalTO(make_params(), lr=np.int64(1), alpha=np.int32(0), beta=np.float32(1))
    assert not whole.state


@pytest.mark.parametrize("value", [np.float64("nan"), np.float32(-1), np.int64(-1)])
def test_numpy_numbers_are_checked_too(value):
    with pytest.raises(ValueError, match="lr="):
        DiagonalTO(make_params(), lr=value)


def test_a_schedule_may_return_what_it_likes():
    for value in (0.5, np.float64(0.5), 1, torch.tensor([0.5]), torch.tensor(0.5)):

        class Returns(Schedule):
            def __call__(self, t, value=value):
                return value

        rate = rate_at(Returns(), 0.0)
        assert rate == value
        assert type(rate) is float or rate.shape == ()
