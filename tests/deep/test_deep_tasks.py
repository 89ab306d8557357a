"""The tasks on what their packages hold; skipped where no registry answers."""

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn

from trainopt.data import frozen_features, text
from trainopt.deep.networks import CNN, Decoder, ResNet
from trainopt.deep.runner import evaluate
from trainopt.deep.task import Rows, mean_loss, split
from trainopt.deep.tasks import TASKS, llama, sentences, task_named
from trainopt.deep.tasks.novels import windows
from trainopt.deep.tasks.sentences import Pooled
from trainopt.errors import InputError

# Of the libraries that load the weights.
warned = pytest.mark.filterwarnings("ignore")


def built(name):
    try:
        return TASKS[name].build("cpu")
    except InputError as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["few", pytest.param("all", marks=pytest.mark.slow)])
def rows(request, monkeypatch, tmp_path):
    """All of the real texts, or few; frozen layers put what they make of few into `tmp_path`."""
    if request.param == "all":
        return "all"
    monkeypatch.setattr(sentences, "sentiment", lambda: text.sentiment()[:800])
    monkeypatch.setattr(llama, "whole_text", lambda: text.austen()["Emma"][:30_000])
    read_once = cache(llama.smollm2)
    monkeypatch.setattr(llama, "smollm2", lambda: copy.deepcopy(read_once()))
    monkeypatch.setattr(llama, "_ROWS", {"train": 40, "tune": 8, "validation": 8, "probe": 8})
    monkeypatch.setattr(frozen_features, "cache", lambda: tmp_path)
    return "few"


def test_windows_are_followed_by_the_next_symbol():
    rows = windows(torch.arange(12), 5)
    assert rows.inputs[0].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert rows.targets.tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]


def test_split_deals_every_row_once_and_always_alike():
    rows = Rows((torch.arange(50),), torch.arange(50))
    parts = split(rows, tune=5, validation=10, probe=15)
    assert [len(parts[n]) for n in ("tune", "validation", "probe", "train")] == [5, 10, 15, 20]
    assert sorted(torch.cat([part.targets for part in parts.values()]).tolist()) == list(range(50))
    again = split(rows, tune=5, validation=10, probe=15)
    assert torch.equal(parts["train"].targets, again["train"].targets)


def test_the_decoder_does_not_see_what_comes_after():
    torch.manual_seed(0)
    model = Decoder(vocabulary=11, length=8, width=16)
    symbols = torch.randint(11, (2, 8))
    other = symbols.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 11
    torch.testing.assert_close(model(symbols)[:, :5], model(other)[:, :5])
    assert not torch.allclose(model(symbols)[:, 5:], model(other)[:, 5:])


def test_the_sizes_of_the_image_models():
    assert ResNet(1, (8, 16, 32), 1)(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert CNN()(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    # He et al.'s ResNet-18 has 11.7 M weights with 1000 classes and a 7×7 stem.
    weights = sum(p.numel() for p in ResNet(3).parameters())
    assert weights == 11_689_512 - (7 * 7 - 3 * 3) * 3 * 64 - 512 * 990 - 990


def test_pooling_leaves_out_the_padding():
    class Echo(nn.Module):
        def forward(self, given, mask):
            return given

    model = Pooled(Echo(), 3)
    hidden = torch.randn(1, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0]])
    torch.testing.assert_close(model(hidden, mask), model.head(hidden[:, :2].mean(1)))


def test_an_unknown_task_gets_a_sentence():
    with pytest.raises(InputError, match=r"There is no task resnt: did you mean resnet\?"):
        task_named("resnt")


@pytest.mark.real
@pytest.mark.parametrize("name", ["cnn", "resnet", "transformer"])
def test_tasks_from_scratch_start_at_chance_and_learn(name):
    task = built(name)
    torch.manual_seed(0)
    model = task.model()
    classes = model.head.out_features
    start, _ = evaluate(model.eval(), task.validation[:64])
    assert start == pytest.approx(math.log(classes), rel=0.15)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for i in range(20):
        optimizer.zero_grad()
        mean_loss(model, task.train[slice(32 * i, 32 * i + 32)]).backward()
        optimizer.step()
    assert evaluate(model.train(), task.validation[:64])[0] < 0.9 * start


@pytest.mark.real
@warned
def test_the_encoders_last_layers_are_those_of_the_whole_encoder(rows):
    from trainopt.data.pretrained import minilm

    task = built("encoder")
    torch.manual_seed(0)
    model = task.model().eval()
    bert, _ = minilm()
    hidden, mask = (x[:4] for x in task.validation.inputs)
    top = model.encoder(hidden, mask)
    assert top.shape == hidden.shape
    assert sum(p.numel() for p in model.encoder.parameters()) == sum(
        p.numel() for p in bert.encoder.layer[-2:].parameters()
    )
    assert len(task.train) > 1500 if rows == "all" else len(task.train) == 800 - 256 - 256 - 128
    assert 0.3 < task.validation.targets.float().mean() < 0.7


@pytest.mark.real
@warned
@pytest.mark.usefixtures("rows")
def test_lora_starts_as_the_model_it_adapts():
    full, lora = built("llama"), built("llama-lora")
    rows = full.validation[:4]
    torch.manual_seed(0)
    loss = mean_loss(full.model().eval(), rows)
    adapted = lora.model()
    torch.testing.assert_close(mean_loss(adapted.eval(), rows), loss)
    # Pretrained on much English: far below the log of the number of symbols.
    assert loss < 0.6 * math.log(full.facts["symbols"])
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    assert lora.train.targets.equal(full.train.targets)
