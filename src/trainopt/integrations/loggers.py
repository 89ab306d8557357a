"""Where the numbers of `monitor` go: TensorBoard, Weights & Biases, MLflow.

    watch(optimizer, to_tensorboard(SummaryWriter("runs")), every=10)

Each takes what the tool gives and imports nothing itself.
"""

from __future__ import annotations

from typing import Any

from trainopt.integrations.monitor import Log

PREFIX = "trainopt/"


def prefixed(values: dict[str, float]) -> dict[str, float]:
    """Return the values with names that stand apart from a trainer's own: "trainopt/alpha"."""
    return {PREFIX + name: value for name, value in values.items()}


def to_tensorboard(writer: Any) -> Log:
    """Log to a `torch.utils.tensorboard.SummaryWriter`."""

    def log(values: dict[str, float], step: int) -> None:
        for name, value in prefixed(values).items():
            writer.add_scalar(name, value, step)

    return log


def to_wandb(run: Any) -> Log:
    """Log to a Weights & Biases run: what `wandb.init()` returns.

    W&B wants steps that never fall: log everything of a run under the same count.
    """
    return lambda values, step: run.log(prefixed(values), step=step)


def to_mlflow(client: Any, run_id: str) -> Log:
    """Log to a run of MLflow by its `mlflow.MlflowClient`."""

    def log(values: dict[str, float], step: int) -> None:
        for name, value in prefixed(values).items():
            client.log_metric(run_id, name, value, step=step)

    return log
