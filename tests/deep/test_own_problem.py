"""A user's own training in `compare`: a small regression on real data, against a plain loop."""

import json

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import Dataset, TensorDataset

from trainopt import InputError, compare
from trainopt.reports import report

X, Y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
X, Y = X / X.std(0), ((Y - Y.mean()) / Y.std())[:, None]


def net():
    return nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))


def regression():
    return net(), (X[:300], Y[:300]), mse_loss, TensorDataset(X[300:], Y[300:])


def final(problem, **options):
    small = {"epochs": 2, "batch_size": 50, "seeds": 2, "tune": 0, "size": "cpu"} | options
    return compare(problem, "momentum", **small).set_index("optimizer")


def test_its_numbers_are_those_of_a_loop(tmp_path):
    table = final(regression, out=tmp_path)
    assert set(table.index) == {"momentum", "alpha0", "adamw"}  # the baseline and the reference
    settings = json.loads(table.settings["momentum"])
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    # The rows that are trained on: what neither tuning (300 / 8) nor the probe has.
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[2 * 37 :]
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = net()
        optimizer = torch.optim.SGD(
            model.parameters(), settings["lr"], 1 - settings["one_minus_momentum"]
        )
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2):
            shuffled = order[torch.randperm(len(order), generator=generator)]
            for rows in shuffled.split(50)[: len(order) // 50]:
                optimizer.zero_grad()
                mse_loss(model(X[rows]), Y[rows]).backward()
                optimizer.step()
        ends.append(mse_loss(model(X[300:]), Y[300:]).item())
    found = runs[(runs.optimizer == "momentum") & (runs.step == runs.step.max())]
    assert found.val_loss.tolist() == pytest.approx(ends, rel=1e-5)
    assert table.val_loss["momentum"] == pytest.approx(sum(ends) / 2, rel=1e-5)
    assert found.val_accuracy.isna().all()  # a regression has none
    page = (tmp_path / "report.html").read_text()
    assert "regression" in page
    report(tmp_path)  # by another process, which doesn't know the function
    assert (tmp_path / "report.html").read_text() == page
    again = final(regression, out=tmp_path)
    pd.testing.assert_frame_equal(again, table)  # seconds too: nothing was run
    with pytest.raises(InputError, match="holds results of another protocol"):
        final(regression, out=tmp_path, epochs=3)


class Items(Dataset):
    """Three classes of images, item by item."""

    x = torch.randn(90, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.x[i, 0, 0, :3].argmax())


def classes():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), Items(), cross_entropy


def test_a_data_set_of_classes_has_an_accuracy():
    table = final(classes, epochs=20, batch_size=10)
    assert 0.5 < table.val_accuracy["momentum"] <= 1


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (net, "returns Sequential, not (model, data, loss)"),
        (lambda: (3, (X, Y), mse_loss), "returns int as the model: return an nn.Module"),
        (lambda: (nn.Tanh(), (X, Y), mse_loss), "has no parameter that is trained"),
        (lambda: (net(), (X, Y), 0.5), "returns 0.5 as the loss"),
        (lambda: (net(), (X, Y[:9]), mse_loss), "return tensors (inputs, targets) of one length"),
        (lambda: (net(), X, mse_loss), "return tensors (inputs, targets) of one length"),
        (lambda: (net(), (X[:9], Y[:9]), mse_loss), "have 9 rows: give at least 16"),
        (
            lambda: (net(), (X, Y), lambda a, b: (a - b) ** 2),
            "gives shape (4, 1): return the mean over the mini-batch",
        ),
    ],
)
def test_what_cant_be_used_gets_a_sentence(tmp_path, problem, sentence):
    with pytest.raises(InputError) as error:
        final(problem, out=tmp_path / "out")
    assert sentence in str(error.value)
    assert not (tmp_path / "out").exists()


def test_options_of_other_problems_are_refused():
    with pytest.raises(InputError, match="The problem is a function: leave out l2"):
        final(regression, l2=0.1)
    with pytest.raises(InputError, match="full is for linear problems"):
        compare(regression, "full")
    with pytest.raises(InputError, match="batch_size is 1000, and regression has 226 training"):
        final(regression, batch_size=1000)
    with pytest.raises(InputError, match="cnn is a deep task: leave out l2"):
        compare("cnn", l2=0.1)
    with pytest.raises(InputError, match="no deep task: leave out size"):
        compare("wine-softmax", size="cpu")
