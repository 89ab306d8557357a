"""Accelerate: `prepare`, gradient accumulation, and the state it saves."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainopt import ChunkSampler, DiagonalTO, Estimated, SecantTO
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


def secant(accumulate):
    """A model, its optimizer, and a loader of 32 rows in fixed chunks of batches of 4."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    sampler = ChunkSampler(32, 4, chunks=3, accumulate=accumulate)
    loader = DataLoader(data(), batch_sampler=sampler)
    return model, SecantTO(model.parameters(), sampler, lr=0.1), loader


def test_chunks_are_read_as_in_a_plain_loop():
    """Eight batches, a step after every third and at the end; Accelerate reads one batch ahead."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    model, optimizer, loader = accelerator.prepare(*secant(3))
    plain, reference, batches = secant(3)
    for _ in range(5):
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward((model(x) - y).square().mean())
                optimizer.step()
                optimizer.zero_grad()
        for i, (x, y) in enumerate(batches):
            ((plain(x) - y).square().mean() / 3).backward()
            if i % 3 == 2 or i == 7:
                reference.step()
                reference.zero_grad()
    assert optimizer.optimizer.steps == reference.steps == 15
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_saved_secant_run_goes_on_bit_for_bit(tmp_path):
    ends = []
    for stop in (True, False):
        accelerator = accelerate.Accelerator(cpu=True)
        model, optimizer, loader = accelerator.prepare(*secant(1))
        for epoch in range(6):
            if stop and epoch == 4:
                accelerator.save_state(str(tmp_path / "state"))
                accelerator = accelerate.Accelerator(cpu=True)
                model, optimizer, loader = accelerator.prepare(*secant(1))
                accelerator.load_state(str(tmp_path / "state"))
                loader.set_epoch(epoch)
            for x, y in loader:
                accelerator.backward((model(x) - y).square().mean())
                optimizer.step()
                optimizer.zero_grad()
        ends.append([p.detach().clone() for p in model.parameters()])
    for p, q in zip(*ends, strict=True):
        assert torch.equal(p, q)
