"""One run, against loops written out here."""

import math

import pytest
import torch
from tiny_task import Net, tiny
from torch import nn
from torch.nn import functional

from trainopt.deep.runner import Plan, evaluate, full_gradient, train
from trainopt.harness.names import optimizers_of
from trainopt.harness.optimizers import OPTIMIZERS, SCHEDULES

SETTINGS = {
    "lr": 0.05,
    "lr_schedule": "constant",
    "alpha": 0.01,
    "beta": 0.5,
    "one_minus_beta1": 0.1,
    "one_minus_momentum": 0.1,
}


def run(name="momentum", settings=None, plan=None, task=None, seed=0):
    task = task or tiny()
    plan = plan or Plan.of(12, 8, 4, 2)
    entry = OPTIMIZERS[name]
    needed = {*entry.settings, *(OPTIMIZERS[entry.plain].settings if entry.plain else ())}
    given = SETTINGS | (settings or {})
    chosen = {key: given[key] for key in given if key in needed}
    return train(task, task.validation, entry, chosen, seed, plan)


def test_sgd_is_the_loop_written_out():
    task = tiny()
    torch.manual_seed(3)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(3))
    for i in range(6):
        part = order[8 * i : 8 * i + 8]
        optimizer.zero_grad()
        logits = model(task.train.inputs[0][part])
        functional.cross_entropy(logits, task.train.targets[part]).backward()
        optimizer.step()
    model.eval()
    expected = functional.cross_entropy(model(task.validation.inputs[0]), task.validation.targets)
    found = run(plan=Plan.of(6, 8, 3, 1), seed=3)[-1]
    assert found["val_loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert (found["step"], found["examples"]) == (6, 48)


def test_judging_and_probing_change_nothing():
    often = run(plan=Plan.of(12, 8, 12, 1))
    once = run(plan=Plan(12, 8, (12,)))
    assert often[-1]["val_loss"] == once[-1]["val_loss"]
    assert [row["step"] for row in often] == list(range(13))


def test_all_optimizers_run_and_start_alike():
    plan = Plan.of(6, 8, 3, 1)
    runs = {name: run(name, plan=plan) for name in optimizers_of("deep")}
    starts = {rows[0]["val_loss"] for rows in runs.values()}
    assert len(starts) == 1
    for name, rows in runs.items():
        assert [row["step"] for row in rows] == [0, 2, 4, 6], name
        assert all(math.isfinite(row["val_loss"]) for row in rows), name
        assert -1 <= rows[-1]["estimator_cos"] <= 1, name
        assert rows[-1]["state_bytes"] > 0, name
    weights = sum(p.numel() for p in Net().parameters())
    assert runs["diagonal"][-1]["state_bytes"] == 8 * weights
    assert runs["lion-diagonal"][-1]["state_bytes"] == 12 * weights


def test_the_estimate_is_compared_with_the_gradient_at_the_same_weights():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x)

    task = tiny(model=Linear)
    # The whole probe in every batch: then g is ∇F, and Ĝ of α = 0, β = 1 is g.
    task = type(task)(**{**task.__dict__, "train": task.probe})
    rows = run("alpha0", {"beta": 1.0}, Plan.of(3, len(task.probe), 3, 1), task)
    for row in rows[1:]:
        assert row["estimator_error"] == pytest.approx(0, abs=1e-9)
        assert row["gradient_cos"] == pytest.approx(1, abs=1e-6)
    slow = run("alpha0", {"beta": 0.5, "lr": 1e-9}, Plan.of(1, len(task.probe), 1, 1), task)
    assert slow[-1]["estimator_error"] == pytest.approx(0.25, rel=1e-4)  # Ĝ = g/2


def test_the_full_gradient_leaves_the_buffers():
    task = tiny()
    model = Net()
    named = list(model.named_parameters())
    before = [buffer.clone() for buffer in model.buffers()]
    gradient = full_gradient(model, named, task.probe)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    loss = functional.cross_entropy(model(task.probe.inputs[0]), task.probe.targets)
    expected = torch.autograd.grad(loss, [p for _, p in named])
    for mine, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_divergence_is_infinite_and_shown_to_the_end():
    rows = run("momentum", {"lr": 1e30}, Plan.of(12, 8, 4, 2))
    assert [row["step"] for row in rows] == [0, 3, 6, 9, 12]
    assert rows[-1]["val_loss"] == math.inf
    assert math.isnan(rows[-1]["estimator_cos"])


def test_evaluation_counts_right_targets():
    task = tiny()
    model = Net().eval()
    loss, accuracy = evaluate(model, task.validation)
    logits = model(task.validation.inputs[0])
    assert loss == pytest.approx(functional.cross_entropy(logits, task.validation.targets).item())
    assert accuracy == (logits.argmax(1) == task.validation.targets).float().mean().item()


@pytest.mark.parametrize("name", ["constant", "cosine", "exponential", "inverse"])
def test_schedules_start_at_one_and_end_at_their_end(name):
    rate = SCHEDULES[name](1.0, 10, 49)
    values = [rate(float(step)) for step in range(50)]
    assert values[0] == 1
    assert values[-1] == pytest.approx({"constant": 1, "inverse": 10 / 59}.get(name, 0.01))
    assert values == sorted(values, reverse=True)


def test_schedules_reach_the_optimizer():
    still = run("momentum", {"lr": 1e-12})[-1]["val_loss"]
    decayed = run("momentum", {"lr": 0.05, "lr_schedule": "exponential"})[-1]["val_loss"]
    constant = run("momentum", {"lr": 0.05})[-1]["val_loss"]
    assert len({still, decayed, constant}) == 3
