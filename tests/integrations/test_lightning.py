"""Lightning: the closure, the callback, and resume."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainopt import DiagonalTO, Estimated

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
