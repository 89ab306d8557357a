"""Accelerate: `prepare`, gradient accumulation, and the state it saves."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainopt import DiagonalTO, Estimated
from trainopt.integrations.monitor import monitor

accelerate = pytest.importorskip("accelerate")


def make():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    inner = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, Estimated(inner, DiagonalTO(model.parameters(), 0.0, 0.02, 0.5))


def data():
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1, keepdim=True))


def run(accelerator, model, optimizer, loader):
    losses = []
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = (model(x) - y).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            if accelerator.sync_gradients:
                assert monitor(optimizer)["beta"] == 0.5
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    return losses


def test_accumulated_steps_are_those_of_a_plain_loop():
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer = make()
    losses = run(
        accelerator, *accelerator.prepare(model, optimizer, DataLoader(data(), batch_size=4))
    )
    plain, reference = make()
    expected = []
    for i, (x, y) in enumerate(DataLoader(data(), batch_size=4)):
        loss = (plain(x) - y).square().mean()
        (loss / 2).backward()
        expected.append(float(loss.detach()))
        if i % 2:
            reference.step()
            reference.zero_grad()
    assert losses == expected


def test_saved_state_continues_bit_for_bit(tmp_path):
    accelerator = accelerate.Accelerator(cpu=True)
    pieces = accelerator.prepare(*make(), DataLoader(data(), batch_size=4))
    run(accelerator, *pieces)
    accelerator.save_state(str(tmp_path / "state"))
    expected = run(accelerator, *pieces)

    accelerator = accelerate.Accelerator(cpu=True)
    pieces = accelerator.prepare(*make(), DataLoader(data(), batch_size=4))
    accelerator.load_state(str(tmp_path / "state"))
    assert run(accelerator, *pieces) == expected
