"""`trainopt.advise` on models of a user's: what it finds, what it leaves alone, what it refuses."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import trainopt

TORCH = torch.nn.functional


def data(rows=96, features=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=generator)
    return TensorDataset(x, (x @ torch.randn(features, classes, generator=generator)).argmax(1))


class Augmented(Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, i):
        x, y = self.source[i]
        noise = random.gauss(0, 0.1) + np.random.normal()  # noqa: NPY002
        return x + noise + 0.1 * torch.randn(x.shape), y


def advise(model, loader=None, passes=10, **settings):
    loader = DataLoader(data(), 16) if loader is None else loader
    return trainopt.advise(model, TORCH.cross_entropy, loader, passes, **settings)


def test_a_linear_model_on_rows_that_repeat():
    torch.manual_seed(0)
    advice = advise(nn.Linear(6, 3), weight_decay=0.01)
    assert advice.optimizer == "secant"
    assert advice.settings == {"weight_decay": 0.01}
    assert advice.measurements.linear
    assert advice.measurements.repeats.exact
    assert advice.measurements.weights == 21
    assert advice.measurements.rows == 96
    assert advice.measurements.spent <= 100
    assert not advice.measurements.spectrum.negative
    assert str(advice).startswith("Take SecantTO, K = 8: ")
    assert "If no training loop is needed, a solver for linear models" in advice.words()


def test_the_ends_are_those_of_the_dense_hessian_with_the_decay():
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    rows = data()
    x, y = rows.tensors[0].double(), rows.tensors[1]
    # A budget for a product per weight (21) and more: Lanczos' method is exact then.
    advice = advise(model, [(x, y)], weight_decay=0.01, budget=200)

    def loss(flat):
        scores = x @ flat[:18].view(3, 6).T + flat[18:]
        return TORCH.cross_entropy(scores, y) + 0.005 * flat.square().sum()

    flat = torch.cat([model.weight.detach().reshape(-1), model.bias.detach()])
    values = np.linalg.eigvalsh(torch.func.hessian(loss)(flat).numpy())
    assert advice.measurements.spectrum.low == pytest.approx(values[0], abs=1e-8)
    assert advice.measurements.spectrum.high == pytest.approx(values[-1])


def test_the_hidden_layers_of_a_network_make_it_nonlinear():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    seen = advise(model).measurements
    assert not seen.linear
    assert seen.repeats.exact
    assert seen.matrices == pytest.approx(48 / 83)
    assert seen.repeats.order is True
    assert not advise(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))).measurements.linear


@pytest.mark.parametrize(
    ("model", "loader", "why"),
    [
        (
            lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)),
            lambda: DataLoader(data(), 16),
            "dropout",
        ),
        (
            lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
            lambda: DataLoader(data(), 16),
            "batch norm",
        ),
        (lambda: nn.Linear(6, 3), lambda: DataLoader(Augmented(data()), 16), "augmentation"),
    ],
    ids=["dropout", "batch norm", "augmentation"],
)
def test_random_gradients_are_seen(model, loader, why):
    torch.manual_seed(0)
    advice = advise(model(), loader(), passes=1000)
    assert not advice.measurements.repeats.exact
    assert advice.optimizer not in ("secant", "secant-small", "lbfgs")
    assert why in advice.words()


def test_a_loader_that_shuffles_is_seen():
    loader = DataLoader(data(), 16, shuffle=True)
    advice = advise(nn.Linear(6, 3), loader)
    assert advice.measurements.repeats.order is False
    assert advice.measurements.repeats.exact
    assert "shuffles" in advice.words()


def test_everything_is_left_as_it_was():
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(5)
    sampler = trainopt.ChunkSampler(96, 16)
    loaders = [
        DataLoader(Augmented(data()), 16, shuffle=True, generator=generator),
        DataLoader(data(), batch_sampler=sampler),
    ]
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[3].bias.requires_grad_(False)
    model.eval()
    model[0].train()
    model[0].weight.grad = torch.full((8, 6), 7.0)

    def state():
        return [
            *(x.clone() for x in model.state_dict().values()),
            torch.get_rng_state(),
            generator.get_state(),
            torch.tensor([m.training for m in model.modules()]),
            torch.tensor([sampler.epoch, sampler.begun, sampler.start]),
            torch.tensor([hash(random.getstate())]),
            torch.tensor([hash(np.random.get_state()[1].tobytes())]),  # noqa: NPY002
        ]

    before = state()
    for loader in loaders:
        advise(model, loader)
    assert all(torch.equal(x, y) for x, y in zip(before, state(), strict=True))
    assert torch.equal(model[0].weight.grad, torch.full((8, 6), 7.0))
    assert [p.grad is None for p in model.parameters()] == [False, *[True] * 5]


def test_everything_is_left_as_it_was_by_an_error():
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)).eval()
    kept, random_state = model[0].weight.clone(), torch.get_rng_state()
    calls = []

    def loss(output, target):
        calls.append(1)
        if len(calls) == 60:
            raise RuntimeError("stop")
        return TORCH.cross_entropy(output, target)

    with pytest.raises(RuntimeError, match="stop"):
        trainopt.advise(model, loss, DataLoader(data(), 16), 5)
    assert torch.equal(model[0].weight, kept)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not model[1].training
    assert model[0].weight.grad is None


def test_the_same_call_says_the_same():
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    one, other = advise(model), advise(model)
    assert one.evidence()[:-1] == other.evidence()[:-1]


def test_the_function_needs_torch_alone():
    tools = ["pandas", "scipy", "sklearn", "matplotlib", "typer", "optuna"]
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({tools}))  # None: an import fails\n"
        "import torch, trainopt\nmodel = torch.nn.Linear(3, 1)\n"
        "loader = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(4)]\n"
        "print(trainopt.advise(model, torch.nn.MSELoss(), loader, 9).optimizer)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "secant\n"


def test_the_report_is_written(tmp_path):
    torch.manual_seed(0)
    advice = advise(nn.Linear(6, 3), out=tmp_path / "new")
    assert (tmp_path / "new" / "advice.txt").read_text() == f"{advice}\n"
    assert (tmp_path / "new" / "advice.png").read_bytes().startswith(b"\x89PNG")


REFUSED = {
    "passes=0": ({"passes": 0}, ValueError),
    "passes=nan": ({"passes": float("nan")}, ValueError),
    "budget=39": ({"budget": 39}, ValueError),
    "weight_decay=-1": ({"weight_decay": -1}, ValueError),
    "leaves nothing": (
        {"exclude": ["secant", "secant-small", "lbfgs", "schedulefree-sgd", "schedulefree-adamw"]},
        ValueError,
    ),
    "no batches": ({"loader": []}, ValueError),
    "read only once": ({"loader": iter([])}, TypeError),
    "is a Tensor": ({"loader": [torch.ones(4, 6)]}, TypeError),
    "holds a str": ({"loader": [(torch.ones(4, 6), "cat")]}, TypeError),
    "is nan": ({"loader": [(torch.full((4, 6), np.nan), torch.ones(4).long())]}, ValueError),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_work_is_refused(sentence):
    settings, error = REFUSED[sentence]
    with pytest.raises(error, match=sentence):
        advise(nn.Linear(6, 3), **settings)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="no parameters"):
        advise(nn.Flatten())
