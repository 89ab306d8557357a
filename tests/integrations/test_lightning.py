"""Lightning: the closure, the callback, and resume."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainopt import ChunkSampler, DiagonalTO, Estimated, SecantTO

pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")

from lightning.pytorch import LightningModule, Trainer  # noqa: E402

from trainopt.integrations.lightning import MonitorCallback  # noqa: E402

SETTINGS = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


class Line(LightningModule):
    def __init__(self, make):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)
        self.make = make
        self.losses = []

    def training_step(self, batch, _):
        loss = (self.layer(batch[0]) - batch[1]).square().mean()
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self):
        optimizer = self.make(self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)


def diagonal(params):
    return DiagonalTO(params, lr=0.1, alpha=0.02, beta=0.5)


def behind(params):
    params = list(params)
    return Estimated(torch.optim.AdamW(params, lr=0.1), DiagonalTO(params, 0.0, 0.02, 0.5))


@pytest.mark.parametrize("make", [diagonal, behind])
def test_it_trains_as_a_plain_loop_does(make, tmp_path):
    module = Line(make)
    Trainer(max_epochs=2, default_root_dir=tmp_path, enable_checkpointing=False, **SETTINGS).fit(
        module, data()
    )
    plain = Line(make)
    optimizer = make(plain.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        for batch in data():
            optimizer.zero_grad()
            plain.training_step(batch, 0).backward()
            optimizer.step()
        scheduler.step()
    assert module.losses == plain.losses


@pytest.mark.parametrize("make", [diagonal, behind])
def test_resume_has_the_losses_of_a_run_that_was_never_stopped(make, tmp_path):
    whole, half, rest = (Line(make) for _ in range(3))
    settings = {"default_root_dir": tmp_path, "enable_checkpointing": False, **SETTINGS}
    Trainer(max_epochs=4, **settings).fit(whole, data())
    trainer = Trainer(max_epochs=2, **settings)
    trainer.fit(half, data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    Trainer(max_epochs=4, **settings).fit(rest, data(), ckpt_path=tmp_path / "half.ckpt")
    assert half.losses + rest.losses == whole.losses


def test_the_callback_logs(tmp_path):
    trainer = Trainer(
        max_epochs=1,
        callbacks=[MonitorCallback()],
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        **SETTINGS,
    )
    trainer.fit(Line(behind), data())
    assert trainer.logged_metrics["trainopt/beta"] == 0.5
    assert trainer.logged_metrics["trainopt/norm_A"] > 0


def test_accumulated_gradients_log_only_after_a_step(tmp_path):
    """Eight batches, a step at every third and at the end of each epoch of four."""
    logged = []

    class Recorded(Line):
        def log_dict(self, values):
            logged.append((self.trainer.global_step, len(self.losses)))

    Trainer(
        max_epochs=2,
        accumulate_grad_batches=3,
        callbacks=[MonitorCallback()],
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        **SETTINGS,
    ).fit(Recorded(behind), data())
    assert logged == [(1, 3), (2, 4), (3, 7), (4, 8)]


def in_chunks(accumulate=1, workers=0):
    """A loader of 32 rows in fixed chunks, and its sampler."""
    rows = data().dataset
    sampler = ChunkSampler(rows, 5, chunks=3, accumulate=accumulate)
    return sampler, DataLoader(rows, batch_sampler=sampler, num_workers=workers)


class Chunked(Line):
    """Its optimizer reads in chunks; accumulated losses aren't those of a step's rows."""

    def __init__(self, plan):
        super().__init__(lambda params: SecantTO(params, plan, lr=0.1))

    def configure_optimizers(self):
        return self.make(self.parameters())


class Accumulating(Chunked):
    def optimizer_step(self, epoch, batch_idx, optimizer, closure):
        closure()
        optimizer.step()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_secants_in_chunks_are_those_of_a_plain_loop(workers, tmp_path):
    """Lightning's closure gives the loss, as a step of one's own may."""
    sampler, loader = in_chunks(workers=workers)
    module = Chunked(sampler)
    settings = {"default_root_dir": tmp_path, "enable_checkpointing": False, **SETTINGS}
    Trainer(max_epochs=6, **settings).fit(module, loader)
    sampler, loader = in_chunks()
    plain = Chunked(sampler)
    optimizer = plain.configure_optimizers()
    for _ in range(6):
        for batch in loader:
            optimizer.zero_grad()
            loss = plain.training_step(batch, 0)
            loss.backward()
            optimizer.step(loss=loss)
    assert module.losses == plain.losses


def test_accumulated_batches_are_one_step_of_the_plan(tmp_path):
    """Seven batches, of which the last has two rows, and a step after every third."""
    sampler, loader = in_chunks(accumulate=3)
    module = Accumulating(sampler)
    settings = {"default_root_dir": tmp_path, "enable_checkpointing": False, **SETTINGS}
    trainer = Trainer(max_epochs=5, accumulate_grad_batches=3, **settings)
    trainer.fit(module, loader)
    assert sampler.plan.rows == (15, 15, 2)
    assert trainer.optimizers[0].steps == 15


def test_secants_go_on_from_a_checkpoint(tmp_path):
    settings = {"default_root_dir": tmp_path, "enable_checkpointing": False, **SETTINGS}
    (sampler, loader), (half_sampler, half_loader), (rest_sampler, rest_loader) = (
        in_chunks() for _ in range(3)
    )
    whole, half, rest = (Chunked(s) for s in (sampler, half_sampler, rest_sampler))
    Trainer(max_epochs=6, **settings).fit(whole, loader)
    trainer = Trainer(max_epochs=4, **settings)
    trainer.fit(half, half_loader)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest_sampler.seek(trainer.optimizers[0].steps)
    Trainer(max_epochs=6, **settings).fit(rest, rest_loader, ckpt_path=tmp_path / "half.ckpt")
    assert half.losses + rest.losses == whole.losses
