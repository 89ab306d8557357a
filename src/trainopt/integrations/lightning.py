"""PyTorch Lightning: `configure_optimizers` returns the optimizer as it is; this logs it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from trainopt.integrations.loggers import prefixed
from trainopt.integrations.monitor import monitor, stepped


class MonitorCallback(Callback):  # type: ignore[misc]
    """Log what the optimizer knows to the Trainer's loggers, at its `log_every_n_steps`.

        Trainer(..., callbacks=[MonitorCallback()])

    The names are those of `monitor` after "trainopt/". With several optimizers, the first one's.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the optimizer: Lightning clears the gradients before the next backward pass."""
        due = trainer.global_step and trainer.global_step % trainer.log_every_n_steps == 0
        if due and stepped(trainer.optimizers[0]):
            pl_module.log_dict(prefixed(monitor(trainer.optimizers[0])))
