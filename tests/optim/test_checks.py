"""Weights, gradients, groups and state that don't fit: one sentence, and nothing has changed."""

import pytest
import torch
from common import IDS, SETTINGS, VARIANTS, fill_grads, make_params, state_of, train

from trainopt import DiagonalTO, FullTO, RankOneTO

# With default settings the kernels step, with foreach=False plain torch.
PATHS = [{}, {"foreach": False}]


def replace(p, shape):
    """The weights as a user resizes them: others in their place, under the same Parameter."""
    p.data = torch.ones(shape, dtype=p.dtype)
    p.grad = torch.ones(shape, dtype=p.dtype)


def grown(optimizer, params):
    replace(params[0], (90, 50))


def shrunk(optimizer, params):
    replace(params[0], (1, 3))


def transposed(optimizer, params):
    replace(params[0], (3, 4))


def gradient_of_before(optimizer, params):
    params[0].data = torch.ones(3000, dtype=params[0].dtype)


def narrow_state(optimizer, params):
    name = optimizer.variables[0]
    optimizer.state[params[0]][name] = optimizer.state[params[0]][name].to(torch.float16)


def state_of_another(optimizer, params):
    first, second = (optimizer.state[p] for p in params[:2])
    optimizer.state[params[0]], optimizer.state[params[1]] = second, first


def state_elsewhere(optimizer, params):
    optimizer.state[params[0]]["b"] = optimizer.state[params[0]]["b"].to("meta")


def sparse_state(optimizer, params):
    optimizer.state[params[0]]["b"] = optimizer.state[params[0]]["b"].to_sparse()


def no_tensor(optimizer, params):
    optimizer.state[params[0]]["b"] = None


def a_variable_less(optimizer, params):
    del optimizer.state[params[0]]["b"]


def a_variable_more(optimizer, params):
    optimizer.state[params[0]]["momentum"] = torch.zeros(4, 3)


def narrower_weights(optimizer, params):
    for p in params:
        p.data = p.data.float()
        p.grad = torch.ones_like(p)


def freed_weights(optimizer, params):
    params[0].grad = torch.ones_like(params[0])
    params[0].untyped_storage().resize_(0)


def freed_state(optimizer, params):
    optimizer.state[params[1]]["b"].untyped_storage().resize_(0)


def expanded_weights(optimizer, params):
    params[0].data = torch.ones(1, 3, dtype=params[0].dtype).expand(4, 3)


def expanded_state(optimizer, params):
    optimizer.state[params[0]]["b"] = torch.zeros(1, 3, dtype=params[0].dtype).expand(4, 3)


def group_grows(optimizer, params):
    more = torch.nn.Parameter(torch.ones(4000, dtype=torch.float64))
    more.grad = torch.ones_like(more)
    optimizer.param_groups[0]["params"].append(more)


def group_shrinks(optimizer, params):
    optimizer.param_groups[0]["params"] = [params[0], params[2]]


EDITS = [
    grown,
    shrunk,
    transposed,
    gradient_of_before,
    narrow_state,
    state_of_another,
    state_elsewhere,
    sparse_state,
    no_tensor,
    a_variable_less,
    a_variable_more,
    narrower_weights,
    freed_weights,
    freed_state,
    expanded_weights,
    expanded_state,
]


def has_numbers(x):
    if not isinstance(x, torch.Tensor) or x.is_sparse:
        return False
    return x.is_meta or bool(x.untyped_storage().nbytes())


def refused(optimizer, params, edit):
    """Step after the edit: a sentence that names a shape, and nothing has moved."""
    train(optimizer, params, 3)
    fill_grads(params, 3)
    edit(optimizer, params)
    weights = [p.detach().clone() for p in params if p.untyped_storage().nbytes()]
    clock = int(optimizer.param_groups[0]["step"])
    kept = {
        p: {name: x.clone() for name, x in held.items() if has_numbers(x)}
        for p, held in optimizer.state.items()
    }
    with pytest.raises(ValueError, match="of shape"):
        optimizer.step()
    assert clock == int(optimizer.param_groups[0]["step"])
    left = [p.detach() for p in params if p.untyped_storage().nbytes()]
    for before, after in zip(weights, left, strict=True):
        assert torch.equal(before, after)
    for p, held in kept.items():
        for name, value in held.items():
            now = optimizer.state[p][name]
            assert value.is_meta or torch.equal(value, now)


@pytest.mark.parametrize("path", PATHS, ids=["kernels", "plain"])
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_what_does_not_fit_is_one_sentence(cls, extra, edit, path):
    params = make_params()
    refused(cls(params, lr=0.1, beta=0.5, **extra, **path), params, edit)


@pytest.mark.parametrize("path", PATHS, ids=["kernels", "plain"])
@pytest.mark.parametrize("cls", VARIANTS)
def test_weights_that_are_a_conjugate_view_are_refused(cls, path):
    """Their pairs of reals would be a copy, and the weights would never move."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex128))
    p.data = p.data.conj()
    p.grad = torch.ones(3, dtype=torch.complex128)
    optimizer = cls([p], lr=0.1, **path)
    with pytest.raises(ValueError, match="resolve_conj"):
        optimizer.step()
    p.data = p.data.resolve_conj()
    optimizer.step()
    assert not torch.equal(p, torch.ones_like(p))


@pytest.mark.parametrize("path", PATHS, ids=["kernels", "plain"])
@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_a_gradient_of_other_weights_at_the_first_step(cls, extra, path):
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    p.data = torch.ones(30)
    optimizer = cls([p], lr=0.1, **extra, **path)
    with pytest.raises(ValueError, match=r"a gradient of shape \(4,\)"):
        optimizer.step()
    assert torch.equal(p.data, torch.ones(30))
    assert not optimizer.state


@pytest.mark.parametrize("path", PATHS, ids=["kernels", "plain"])
@pytest.mark.parametrize("edit", [group_grows, group_shrinks])
def test_a_dense_A_of_a_group_that_was_edited(edit, path):
    params = make_params()
    refused(FullTO(params, lr=0.1, beta=0.5, **path), params, edit)


@pytest.mark.parametrize("path", PATHS, ids=["kernels", "plain"])
@pytest.mark.parametrize("cls", [DiagonalTO, RankOneTO])
def test_groups_that_were_edited_step_on_with_vectors_of_state(cls, path):
    params = make_params()
    optimizer = cls(params, lr=0.1, beta=0.5, **path)
    train(optimizer, params, 2)
    optimizer.param_groups[0]["params"] = [params[2], params[0], *make_params(shapes=[(5,)])]
    active = optimizer.param_groups[0]["params"]
    before = [p.detach().clone() for p in active]
    train(optimizer, active, 1, start=2)
    assert not any(torch.equal(p, q) for p, q in zip(before, active, strict=True))


@pytest.mark.parametrize(("cls", "extra"), SETTINGS, ids=IDS)
def test_a_state_dict_of_other_shapes_is_refused(cls, extra):
    params = make_params()
    saved = cls(params, lr=0.5, **extra)
    train(saved, params, 2)
    for shapes in ([(4, 3), (5,), ()], [(4,), (4, 3), ()], [(40, 5), (4,), ()]):
        others = make_params(shapes=shapes)
        optimizer = cls(others, lr=0.1, **extra)
        train(optimizer, others, 1)
        before = state_of(optimizer)
        with pytest.raises(ValueError, match="of shape"):
            optimizer.load_state_dict(saved.state_dict())
        assert str(before) == str(state_of(optimizer))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.to("meta"),
        lambda x: x.to_sparse(),
        lambda x: x.to(torch.complex64),
        lambda x: x.to(torch.int64),
    ],
)
@pytest.mark.parametrize("cls", VARIANTS)
def test_a_state_dict_of_other_kinds_of_tensors_is_refused(cls, change):
    params = make_params()
    optimizer = cls(params, lr=0.1, beta=0.5)
    train(optimizer, params, 2)
    saved, before = state_of(optimizer), state_of(optimizer)
    saved["state"][2]["b"] = change(saved["state"][2]["b"])
    with pytest.raises(ValueError, match=r"b of the parameter of shape \(\)"):
        optimizer.load_state_dict(saved)
    assert str(before) == str(state_of(optimizer))


@pytest.mark.parametrize("cls", VARIANTS)
def test_settings_of_a_state_dict_are_checked(cls):
    optimizer = cls(make_params(), lr=0.1)
    for change, error in (
        ({"alpha": -1.0}, ValueError),
        ({"lr": "fast"}, TypeError),
        ({"alpha": None}, TypeError),
    ):
        saved = state_of(optimizer)
        saved["param_groups"][0].update(change)
        with pytest.raises(error, match=next(iter(change))):
            optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0]["lr"] == 0.1
    other = torch.optim.SGD(make_params(), lr=0.3).state_dict()
    with pytest.raises(ValueError, match="no alpha, beta"):
        optimizer.load_state_dict(other)


@pytest.mark.parametrize("cls", VARIANTS)
def test_reading_the_state_of_a_fresh_parameter_harms_no_checkpoint(cls):
    params = make_params()
    optimizer = cls(params, lr=0.1)
    assert not optimizer.state[params[0]]  # a defaultdict: there is an entry now
    resumed = cls(params, lr=0.2)
    resumed.load_state_dict(optimizer.state_dict())
    train(resumed, params, 2)


@pytest.mark.parametrize("cls", VARIANTS)
def test_params_that_are_no_tensors_or_have_no_order(cls):
    for lr in (0.1, torch.tensor(0.1)):
        with pytest.raises(TypeError, match="str"):
            cls(["weight"], lr=lr)
        with pytest.raises(TypeError, match="ordered"):
            cls(set(make_params()), lr=lr)
        with pytest.raises(TypeError, match="ordered"):
            cls([{"params": set(make_params())}], lr=lr)


@pytest.mark.parametrize("init", [torch.zeros_like, lambda p: p.new_full(p.shape, float("nan"))])
def test_rank_one_refuses_a_start_that_never_learns(init):
    params = make_params()
    fill_grads(params, 0)
    with pytest.raises(ValueError, match="init"):
        RankOneTO(params, lr=0.1, init=init).step()


@pytest.mark.parametrize("cls", VARIANTS)
def test_a_new_optimizer_on_the_groups_of_another_has_a_clock_of_its_own(cls):
    params = make_params()
    first = cls(params, lr=0.1)
    train(first, params, 3)
    second = cls(first.param_groups, lr=0.1)
    assert second.param_groups[0]["step"] == 0
    train(second, params, 1)
    assert first.param_groups[0]["step"] == 3


def test_fused_is_refused_before_any_group_moves():
    ours = make_params()
    fill_grads(ours, 0)
    wrapped = torch.nn.Parameter(torch.ones(3).as_subclass(type("Wrapped", (torch.Tensor,), {})))
    wrapped.grad = torch.ones(3)
    before = [p.detach().clone() for p in ours]
    optimizer = DiagonalTO([{"params": ours}, {"params": [wrapped]}], lr=0.1, fused=True)
    with pytest.raises(RuntimeError, match="fused=True has no kernel"):
        optimizer.step()
    for p, q in zip(ours, before, strict=True):
        assert torch.equal(p, q)
