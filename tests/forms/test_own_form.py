"""`banded.py`, a form in a short file, through all that the paper's variants go through."""

import copy
import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import banded
import pytest
import torch
from banded import Banded
from common_forms import FORMS, dense_matrix, name, randn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from trainopt import (
    TO,
    Centred,
    Diagonal,
    DiagonalTO,
    Estimated,
    Estimator,
    Exponential,
    Gradient,
    Kronecker,
    Left,
    LowRank,
    Normalised,
    Weights,
    residual_factors,
)
from trainopt.integrations.monitor import monitor, watch

SHAPES = ((4, 3), (5,), ())
RULES = [Gradient(0.03, 0.4), Normalised(0.6, 0.3)]
all_rules = pytest.mark.parametrize("rule", RULES, ids=name)


def make(dtype=torch.float64, shapes=SHAPES):
    return [torch.nn.Parameter(randn(*s, seed=i).to(dtype)) for i, s in enumerate(shapes)]


def built(params, rule=RULES[0], *, lr=0.1, form=Banded(2), **options):  # noqa: B008
    return TO(Estimator(params, form, rule, **options), lr=lr)


def fill(params, t):
    for i, p in enumerate(params):
        real = randn(*p.shape, *((2,) if p.is_complex() else ()), seed=50 * t + i)
        p.grad = (torch.view_as_complex(real) if p.is_complex() else real).to(p.dtype)


def train(optimizer, params, steps, start=0):
    for t in range(start, start + steps):
        fill(params, t)
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(xs, ys, **tolerance):
    for x, y in zip(xs, ys, strict=True):
        torch.testing.assert_close(x, y, **(tolerance or {"rtol": 0, "atol": 0}))


def everything(optimizer, params):
    return [x for p in params for x in (p.detach(), *optimizer.state[p].values())]


def test_the_file_is_short_and_shown_in_the_documents():
    text = Path(banded.__file__).read_text()
    assert len(text.splitlines()) <= 40
    assert text in (Path(__file__).parents[2] / "docs" / "method.md").read_text()


@all_rules
def test_a_resumed_run_is_the_same_to_the_last_bit(rule):
    params = make()
    optimizer = built(params, rule, lr=Exponential(0.1, 0.9), reads=Centred(0.1))
    train(optimizer, params, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in params]
    expected = train(optimizer, params, 3, start=3)
    file.seek(0)
    other = built(resumed, rule, lr=0.7, form=Banded(5), reads=Centred(0.9))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.param_groups[0]["width"] == 2
    same(train(other, resumed, 3, start=3), expected)
    same(everything(other, resumed), everything(optimizer, params))


@all_rules
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_its_own_way(copied, rule):
    params = make()
    optimizer = built(params, rule)
    train(optimizer, params, 2)
    twins, twin = copied([params, optimizer])
    before = [x.clone() for x in everything(twin, twins)]
    expected = train(optimizer, params, 3, start=2)
    same(everything(twin, twins), before)
    same(train(twin, twins, 3, start=2), expected)


def test_the_estimator_was_taken_over():
    params, others = make(), make()
    optimizer = built(params)
    estimator = Estimator(others, Banded(2), RULES[0])
    fill(others, 0)
    estimator.learn()
    late = TO(estimator, lr=0.1)
    fill(params, 0)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.0)
    optimizer.learn()
    optimizer.param_groups[0]["lr"] = 0.1
    assert late.param_groups[0]["step"] == 1
    same(train(late, others, 3, start=1), train(optimizer, params, 3, start=1))


@all_rules
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_step_is_the_same_step(backend, rule):
    torch._dynamo.reset()
    params, plain = make(shapes=SHAPES[:2]), make(shapes=SHAPES[:2])
    compiled, reference = (built(ps, rule, keep_estimate=True) for ps in (params, plain))
    step = torch.compile(compiled.step, backend=backend)
    for t in range(3):
        fill(params, t)
        step()
        fill(plain, t)
        reference.step()
    tolerance = {"rtol": 1e-11, "atol": 1e-12}
    same(everything(compiled, params), everything(reference, plain), **tolerance)
    same([compiled.estimate(p) for p in params], map(reference.estimate, plain), **tolerance)
    torch.testing.assert_close(compiled.residual_norm(), reference.residual_norm())
    assert compiled.param_groups[0]["step"] == 3


@pytest.mark.parametrize(
    ("form", "reading"),
    [
        (Banded(2), Centred(0.3)),
        (Banded(2), Weights()),
        (Left(), Weights()),
        (LowRank(1), Weights()),
    ],
    ids=name,
)
@all_rules
def test_a_gradient_flows_through_a_step(rule, form, reading):
    x = randn(4)

    def last(w, lr, alpha, beta, *grads):
        torch.manual_seed(0)
        p = w.clone()
        rule_at = type(rule)(alpha, beta)
        optimizer = built([p], rule_at, form=form, lr=lr, differentiable=True, reads=reading)
        for g in grads:
            p.grad = g
            optimizer.step()
        return p, *(value for value in optimizer.state[p].values() if value.requires_grad)

    inputs = [x, *(torch.tensor(v, dtype=torch.float64) for v in (0.1, 0.05, 0.4))]
    inputs += [x + 1, 2 * x, x * x]
    assert torch.autograd.gradcheck(last, [v.clone().requires_grad_() for v in inputs])


@all_rules
def test_behind_another_optimizer(rule):
    """SGD along the estimate is the step of `TO`; the state of both is saved."""
    params, plain, resumed = make(), make(), make()
    options = {"lr": 0.1}
    outer = Estimated(torch.optim.SGD(params, **options), Estimator(params, Banded(2), rule))
    expected = train(built(plain, rule), plain, 4)
    same(train(outer, params, 4), expected, rtol=1e-12, atol=1e-13)
    again = Estimated(torch.optim.SGD(resumed, lr=0.5), Estimator(resumed, Banded(1), rule))
    again.load_state_dict(outer.state_dict())
    for p, q in zip(resumed, params, strict=True):
        p.data.copy_(q)
    same(train(again, resumed, 2, start=4), train(outer, params, 2, start=4))
    numbers = sum(p.numel() * 6 for p in params)
    assert outer.estimator.memory() == outer.memory() == [8 * numbers]


@all_rules
def test_monitor_and_conditions_ask_the_form(rule):
    (p,) = params = make(shapes=[(4, 3)])
    optimizer = built(params, rule)
    train(optimizer, params, 3)
    known = monitor(optimizer)
    A = dense_matrix(Banded(2), [optimizer.state[p]["bands"]], p.shape)
    assert known["norm_A"] == pytest.approx(float(A.norm()))
    w = torch.nn.functional.pad(p.detach().reshape(-1), (2, 2))
    windows = torch.stack([w[i : i + 5].square().sum() for i in range(12)])
    learned = windows * rule.alpha
    if isinstance(rule, Normalised):
        learned = torch.full_like(windows, rule.alpha)
    factors = (1 - rule.beta - learned).abs()
    assert residual_factors(optimizer)[p] == pytest.approx(float(factors.max()))
    assert known["residual_factor"] == pytest.approx(float(factors.max()))
    assert known["fresh_weight"] == pytest.approx(float((rule.beta + learned).mean()))
    seen = []
    watch(optimizer, lambda values, at: seen.append((at, values["norm_A"])))
    train(optimizer, params, 1)
    assert [at for at, _ in seen] == [4]


@pytest.mark.parametrize("form", FORMS, ids=name)
def test_every_form_can_be_monitored_before_and_after_a_step(form):
    params = make()
    estimator = Estimator(params, form, Normalised())
    assert set(residual_factors(estimator)) == set(params)
    optimizer = TO(estimator, lr=0.1)
    train(optimizer, params, 2)
    assert all(torch.tensor(list(monitor(optimizer).values())).isfinite())
    assert max(residual_factors(optimizer).values()) <= 0.9 + 1e-12  # |1 − β|, at λ = 0


@pytest.mark.parametrize("form", [Banded(2), LowRank(2), Kronecker(), Left()], ids=name)
def test_sharded_parameters_on_one_process(form, tmp_path):
    distributed = torch.distributed
    plain = make(shapes=SHAPES[:2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = built(plain, form=form, keep_estimate=True)
        expected = train(reference, plain, 3)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        from torch.distributed.tensor import DTensor, Shard, distribute_tensor

        mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
        torch.manual_seed(0)
        params = [
            torch.nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)]))
            for p in make(shapes=SHAPES[:2])
        ]
        optimizer = built(params, form=form, keep_estimate=True)
        for t in range(3):
            fill(plain, t)
            for p, q in zip(params, plain, strict=True):
                p.grad = distribute_tensor(q.grad, mesh, [Shard(0)])
            optimizer.step()
        same([p.detach().full_tensor() for p in params], expected, rtol=1e-12, atol=1e-13)
        for p, q in zip(params, plain, strict=True):
            assert all(isinstance(x, DTensor) for x in optimizer.state[p].values())
            assert optimizer.state[p]["b"].placements == p.placements
            assert optimizer.estimate(p).placements == p.placements
            same(
                [optimizer.estimate(p).full_tensor()], [reference.estimate(q)], rtol=1e-9, atol=1e-9
            )
        assert monitor(optimizer) == pytest.approx(monitor(reference))
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved)
        optimizer.step()
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("scope", ["tensor", "group"])
def test_complex_is_pairs_of_reals(scope):
    start = torch.complex(randn(3, 2), randn(3, 2, seed=9))
    p = torch.nn.Parameter(start.clone())
    q = torch.nn.Parameter(torch.view_as_real(start).clone())
    one, two = (built([x], scope=scope, keep_estimate=True) for x in (p, q))
    for t in range(4):
        fill([q], t)
        p.grad = torch.view_as_complex(q.grad)
        one.step()
        two.step()
    same([torch.view_as_real(p.detach())], [q.detach()])
    assert one.estimate(p).dtype == torch.complex128
    assert one.memory() == two.memory() == [8 * 6 * 12]


def test_weights_in_bfloat16_have_a_float32_state():
    halves, singles = make(torch.bfloat16), make(torch.float32)
    for half, single in zip(halves, singles, strict=True):
        single.data.copy_(half)
    optimizer = built(halves)
    train(optimizer, halves, 10)
    train(built(singles), singles, 10)
    assert all(x.dtype == torch.float32 for s in optimizer.state.values() for x in s.values())
    same([p.float() for p in halves], singles, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("scope", ["tensor", "group"])
def test_a_narrow_state_leaves_the_weights_wide(scope):
    params = [torch.nn.Parameter(torch.tensor([1 + 2.0**-40, 2.0], dtype=torch.float64))]
    before = params[0].detach().clone()
    optimizer = built(params, Gradient(0.0, 0.5), lr=0.5, scope=scope, state_dtype=torch.bfloat16)
    params[0].grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    same(params, [before - 0.25])
    assert all(x.dtype == torch.bfloat16 for x in optimizer.state[params[0]].values())
    assert optimizer.memory() == [2 * 12]


def test_groups_of_other_widths_are_separate_optimizers():
    one, two, alone, other = (make() for _ in range(4))
    groups = [{"params": one, "lr": 0.05}, {"params": two, "width": 0, "beta": 0.1}]
    together = built(groups)
    separate = [
        built(alone, lr=0.05),
        TO(Estimator(other, Banded(0), Gradient(0.03, 0.1)), lr=0.1),
    ]
    for t in range(4):
        for params in (one, two, alone, other):
            fill(params, t)
        for optimizer in (together, *separate):
            optimizer.step()
    same([*one, *two], [*alone, *other])
    assert together.memory() == [optimizer.memory()[0] for optimizer in separate]
    diagonal = make()
    ends = train(DiagonalTO(diagonal, 0.1, 0.03, 0.1), diagonal, 4)
    same(ends, two, rtol=1e-12, atol=1e-13)


def test_sgd_to_the_last_bit_without_learning():
    ours, theirs = make(), make()
    optimizer = built(ours, Gradient(0.0, 1.0))
    same(train(optimizer, ours, 5), train(torch.optim.SGD(theirs, lr=0.1), theirs, 5))


def test_tensors_without_numbers_are_nothing_to_a_form():
    params = make(shapes=[(0, 3), (4,)])
    for scope in ("tensor", "group"):
        optimizer = built(params, scope=scope, keep_estimate=True)
        train(optimizer, params, 2)
        assert optimizer.estimate(params[0]).shape == (0, 3)
    empty = make(shapes=[(0,)])
    optimizer = built(empty)
    train(optimizer, empty, 2)
    assert optimizer.residual_norm() == 0


def resized(optimizer, params):
    params[0].data = torch.zeros(7, 3, dtype=torch.float64)
    params[0].grad = torch.zeros(7, 3, dtype=torch.float64)


def cut_state(optimizer, params):
    optimizer.state[params[1]]["bands"] = optimizer.state[params[1]]["bands"][:, 1:]


def changed_width(optimizer, params):
    optimizer.param_groups[0]["width"] = 3


def lost_variable(optimizer, params):
    del optimizer.state[params[0]]["bands"]


@pytest.mark.parametrize("scope", ["tensor", "group"])
@pytest.mark.parametrize("edit", [resized, cut_state, changed_width, lost_variable])
def test_what_does_not_fit_is_one_sentence_and_nothing_moves(edit, scope):
    params = make()
    optimizer = built(params, scope=scope)
    train(optimizer, params, 2)
    edit(optimizer, params)
    before = [x.clone() for x in everything(optimizer, params)]
    with pytest.raises(ValueError, match="the parameter of shape"):
        optimizer.step()
    same(everything(optimizer, params), before)


def test_a_state_dict_of_another_form_or_shape_is_refused():
    params = make()
    optimizer = built(params)
    train(optimizer, params, 1)
    for other, sentence in (
        (DiagonalTO(make(), lr=0.1), "variant that saved it"),
        (built(make(shapes=((4, 3), (6,), ()))), "of shape"),
    ):
        train(other, other.param_groups[0]["params"], 1)
        with pytest.raises(ValueError, match=sentence):
            optimizer.load_state_dict(other.state_dict())


@dataclass(frozen=True)
class Doubled(Diagonal):
    """A = 2 diag(a): another form with the variables of Diagonal."""

    def apply(self, x, a):
        return 2 * a * x


@dataclass(frozen=True)
class Delayed(Centred):
    """Another reading with the variables of Centred."""


MODELS = {
    "Diagonal by Gradient of Weights": (Diagonal(), Gradient(0.03, 0.4), Weights()),
    "Diagonal by Normalised of Weights": (Diagonal(), Normalised(0.03, 0.4), Weights()),
    "Doubled by Gradient of Weights": (Doubled(), Gradient(0.03, 0.4), Weights()),
    "Diagonal by Gradient of Centred": (Diagonal(), Gradient(0.03, 0.4), Centred(0.1)),
    "Diagonal by Gradient of Delayed": (Diagonal(), Gradient(0.03, 0.4), Delayed(0.1)),
}


def of_model(name, *, lr=0.1, behind=None):
    """Parameters and an optimizer of a model that MODELS names, perhaps behind another one."""
    form, rule, reading = MODELS[name]
    params = make()
    if behind:
        estimator = Estimator(params, form, rule, reads=reading)
        return params, Estimated(behind(params, lr=lr), estimator)
    return params, built(params, rule, form=form, reads=reading, lr=lr)


@pytest.mark.parametrize("behind", [None, torch.optim.AdamW])
@pytest.mark.parametrize(
    ("saved", "mine"),
    [
        ("Diagonal by Normalised of Weights", "Diagonal by Gradient of Weights"),
        ("Diagonal by Gradient of Weights", "Diagonal by Normalised of Weights"),
        ("Doubled by Gradient of Weights", "Diagonal by Gradient of Weights"),
        ("Diagonal by Gradient of Delayed", "Diagonal by Gradient of Centred"),
    ],
)
def test_a_state_dict_of_another_model_with_like_variables_is_refused_whole(saved, mine, behind):
    params, other = of_model(saved, behind=behind)
    train(other, params, 2)
    params, optimizer = of_model(mine, lr=0.2, behind=behind)
    train(optimizer, params, 1)
    held = {p: dict(optimizer.state[p]) for p in params}
    with pytest.raises(ValueError, match=f"what {saved} has learned, .* learns {mine}: load"):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.2
    assert {p: dict(optimizer.state[p]) for p in params} == held  # the same tensors


@pytest.mark.parametrize("through", ["torch", "distributed"])
@pytest.mark.parametrize("behind", [None, torch.optim.AdamW])
@pytest.mark.parametrize("named", [True, False], ids=["today's", "an older one"])
def test_a_state_dict_resumes_with_and_without_the_name_of_its_model(named, behind, through):
    name = "Diagonal by Normalised of Weights"
    params, optimizer = of_model(name, behind=behind)
    train(optimizer, params, 2)
    weights = copy.deepcopy(params)
    if through == "torch":
        saved = copy.deepcopy(optimizer.state_dict())
    else:
        saved = copy.deepcopy(get_optimizer_state_dict(torch.nn.ParameterList(params), optimizer))
    groups = saved["param_groups"]
    groups = groups[0]["estimator"] if behind else groups
    assert [group["learns"] for group in groups] == [name]
    if not named:
        del groups[0]["learns"]
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    expected = train(optimizer, params, 3, start=2)
    fresh, resumed = of_model(name, lr=0.7, behind=behind)
    for p, w in zip(fresh, weights, strict=True):
        p.data.copy_(w.detach())
    if through == "torch":
        resumed.load_state_dict(saved)
    else:
        set_optimizer_state_dict(torch.nn.ParameterList(fresh), resumed, saved)
    same(train(resumed, fresh, 3, start=2), expected)
    learned = resumed.estimator if behind else resumed
    assert [group["learns"] for group in learned.param_groups] == [name]


def test_the_groups_of_another_optimizer_learn_by_the_rule_that_they_are_given_to():
    _, other = of_model("Diagonal by Normalised of Weights")
    mine = Estimator(other.param_groups, Diagonal(), Gradient())
    assert mine.param_groups[0]["learns"] == "Diagonal by Gradient of Weights"
    assert other.param_groups[0]["learns"] == "Diagonal by Normalised of Weights"


def test_fused_says_that_there_is_no_kernel():
    params = make()
    fill(params, 0)
    with pytest.raises(RuntimeError, match="there is none for Banded by Gradient of Weights"):
        built(params, fused=True).step()
