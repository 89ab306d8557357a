"""torch's own optimizer inputs and error machinery, over our classes."""

import pytest
import torch
from common import VARIANTS

common_optimizers = pytest.importorskip("torch.testing._internal.common_optimizers")
OptimizerInput = common_optimizers.OptimizerInput


def inputs(cls, device="cpu", dtype=None):
    """What torch's `optim_inputs_func_*` give for its own optimizers."""
    yield OptimizerInput(params=None, kwargs={"lr": 0.01}, desc="default")
    yield OptimizerInput(params=None, kwargs={"lr": torch.tensor(0.01)}, desc="tensor lr")
    yield OptimizerInput(params=None, kwargs={"lr": 0.01, "weight_decay": 0.1}, desc="decay")
    yield OptimizerInput(params=None, kwargs={"lr": 0.01, "maximize": True}, desc="maximize")
    yield OptimizerInput(params=None, kwargs={"lr": 0.01, "capturable": True}, desc="capturable")
    yield OptimizerInput(params=None, kwargs={"lr": 0.01, "alpha": 0.0, "beta": 0.1}, desc="ema")


INFOS = [
    common_optimizers.OptimizerInfo(
        cls,
        optim_inputs_func=lambda device, dtype=None, cls=cls: list(inputs(cls)),
        supported_impls=("foreach", "differentiable"),
        supports_sparse=False,
    )
    for cls in VARIANTS
]
CASES = [
    pytest.param(info, case, id=f"{info.name}-{case.desc}")
    for info in INFOS
    for case in info.optim_inputs_func(device="cpu")
]


@pytest.mark.parametrize(("info", "case"), CASES)
def test_forloop_goes_in_the_right_direction(info, case):
    """As torch's test of the same name: a weight and a bias on a fixed regression."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(10, 5, generator=generator))
    bias = torch.nn.Parameter(torch.randn(10, generator=generator))
    x = torch.randn(5, generator=generator)
    optimizer = info.optim_cls([weight, bias], **{**case.kwargs, "foreach": False})

    def closure():
        optimizer.zero_grad()
        loss = (weight @ x + bias).square().mean()
        sign = -1 if case.kwargs.get("maximize") else 1
        loss.backward()
        return sign * loss

    first = closure().item()
    for _ in range(10):
        optimizer.step(closure)
    assert closure().item() < first


@pytest.mark.parametrize(("info", "case"), CASES)
def test_state_dict_round_trip(info, case):
    params = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.zeros(3))]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = info.optim_cls(params, **case.kwargs)
    optimizer.step()
    again = info.optim_cls(params, **case.kwargs)
    again.load_state_dict(optimizer.state_dict())
    loaded, saved = again.state_dict(), optimizer.state_dict()
    torch.testing.assert_close(loaded["state"], saved["state"], rtol=0, atol=0)
    assert loaded["param_groups"] == saved["param_groups"]


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_generic_errors(info):
    """The error inputs that torch gives to each of its optimizers."""
    make = common_optimizers.get_error_inputs_for_all_optims
    for error in make("cpu", torch.float32):
        case = error.optimizer_error_input
        params = case.params if case.params is not None else [torch.ones(2)]
        with pytest.raises(error.error_type, match=error.error_regex):
            info.optim_cls(params, **{"lr": 0.1, **case.kwargs})
