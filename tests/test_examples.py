"""The examples, as users run them but small: real data, untrained models of the same kind."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

from trainopt.errors import InputError

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Run an example by name; everything it writes goes below a folder of its own."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(name, *argv):
        try:
            return importlib.import_module(name).main([*argv, "--out", str(tmp_path / "out")])
        except InputError as reason:
            pytest.skip(str(reason))

    yield run
    for path in (Path(__file__).parents[1] / "examples").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("optimizer", ["adamw", "diagonal", "estimated"])
def test_hf_trainer(example, optimizer):
    pytest.importorskip("transformers")
    found = example("hf_trainer", "--tiny", "--steps", "4", "--optimizer", optimizer)
    assert 0.3 < found["eval_accuracy"] < 0.7


def test_hf_trainer_goes_on_from_its_checkpoint(example):
    pytest.importorskip("transformers")
    whole = example("hf_trainer", "--tiny", "--steps", "4")
    again = example("hf_trainer", "--tiny", "--steps", "4", "--resume")
    assert again["eval_loss"] == whole["eval_loss"]


@pytest.mark.parametrize("rank", ["4", "0"])
def test_trl_sft(example, rank):
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    found = example("trl_sft", "--tiny", "--steps", "2", "--rank", rank)
    assert found["eval_loss"] == pytest.approx(math.log(500), abs=0.3)


def test_accelerate_loop(example):
    pytest.importorskip("accelerate")
    losses = example("accelerate_loop", "--tiny", "--steps", "12")
    assert len(losses) == 12
    assert losses[0] == pytest.approx(math.log(2), abs=0.2)


def test_lightning_fashion(example):
    pytest.importorskip("lightning")
    logged = example("lightning_fashion", "--tiny", "--steps", "20", "--data", "mnist")
    assert logged["trainopt/beta"] == 0.5
    assert logged["accuracy"] > 0.2


def test_logging_tools(example):
    pytest.importorskip("tensorboard")
    values = example("logging_tools", "--steps", "400")
    assert values["error"] < values["batch_error"]
    assert list(Path("out").glob("events.*"))


@pytest.mark.parametrize(
    ("name", "argv", "gap"),
    [
        ("adult_logistic", ["--data", "breast-cancer", "--batch", "16"], 1e-4),
        ("diamonds_ridge", ["--data", "diabetes", "--batch", "16"], 1e-9),
        ("linear_probe", ["--tiny"], 1e-3),
    ],
)
def test_secants_reach_the_optimum_of_a_linear_model(example, capsys, name, argv, gap):
    if name == "linear_probe":
        pytest.importorskip("transformers")
    rows = example(name, *argv)
    assert 0 <= float(_column(capsys.readouterr().out, "SecantTO", "F − F*")) < gap
    assert rows["SecantTO"].value < rows["ADAM"].value


def test_regression_net(example):
    rows = example("regression_net", "--data", "diabetes", "--batch", "16", "--passes", "30")
    assert rows["SecantTO after ADAM"].value < rows["ADAM"].value
    assert {row.passes for row in rows.values()} == {30}


def _column(table, method, name):
    """A cell of a printed table, by its method and the heading above it."""
    head = next(line for line in table.splitlines() if name in line)
    line = next(line for line in table.splitlines() if line.startswith(method))
    return line[head.index(name) - 2 :].split()[0]


@pytest.mark.parametrize("optimizer", ["secant", "lbfgs"])
def test_pinn(monkeypatch, optimizer):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    pinn = importlib.import_module("pinn")
    before, after = (
        pinn.main(["--optimizer", optimizer, "--passes", passes, "--points", "128"])
        for passes in ("2", "40")
    )
    assert after["loss"] < 0.8 * before["loss"]
    assert after["error"] < before["error"]
    assert torch.get_default_dtype() == torch.float32
