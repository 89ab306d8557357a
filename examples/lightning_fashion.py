"""A convolutional network on Fashion-MNIST with PyTorch Lightning.

    python examples/lightning_fashion.py --steps 500

Lightning gives the optimizer a closure, and logs what it knows through a callback. Fashion-MNIST
comes from a Debian package (30 MB).
"""

from __future__ import annotations

import argparse
import sys

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainopt import DiagonalTO, Exponential
from trainopt.data.sources import SOURCES
from trainopt.integrations.lightning import MonitorCallback


class Network(LightningModule):
    """Two convolutions and a linear layer."""

    def __init__(self, lr: float, width: int) -> None:
        super().__init__()
        self.lr = lr
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 49, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.layers(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log how many of a batch are recognised."""
        images, labels = batch
        self.log("accuracy", (self.layers(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer: nothing here is particular to it."""
        alpha = Exponential(0.01, factor=0.999)
        return DiagonalTO(self.parameters(), lr=self.lr, alpha=alpha, beta=0.5)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, and return what was logged last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--data", choices=["fashion", "mnist"], default="fashion")
    parser.add_argument("--out", default="runs/lightning")
    parser.add_argument("--tiny", action="store_true", help="few channels and images")
    options = parser.parse_args(argv)

    seed_everything(0)
    x, y, _ = SOURCES[options.data].read()
    if options.tiny:
        x, y = x[:600], y[:600]
    images = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    order = torch.randperm(len(images))
    parts = order.split([len(order) * 6 // 7, len(order) - len(order) * 6 // 7])
    train, held_out = (TensorDataset(images[i], torch.tensor(y)[i]) for i in parts)
    batches = DataLoader(train, batch_size=64, shuffle=True)
    trainer = Trainer(
        max_steps=options.steps,
        val_check_interval=min(options.steps, len(batches)),
        accelerator="auto",
        logger=True,
        log_every_n_steps=max(options.steps // 20, 1),
        default_root_dir=options.out,
        callbacks=[MonitorCallback()],
        enable_checkpointing=not options.tiny,
        enable_progress_bar=not options.tiny,
        enable_model_summary=False,
    )
    trainer.fit(
        Network(options.lr, width=4 if options.tiny else 16),
        batches,
        DataLoader(held_out, batch_size=500),
    )
    return {name: float(value) for name, value in trainer.logged_metrics.items()}


if __name__ == "__main__":
    print(main(sys.argv[1:]))
