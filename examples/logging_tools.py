"""Log what an optimizer learns, in a plain loop, to TensorBoard, Weights & Biases or MLflow.

    python examples/logging_tools.py && tensorboard --logdir runs/logging
    python examples/logging_tools.py --to wandb      # offline, into --out
    python examples/logging_tools.py --to mlflow     # into --out

Logistic regression on 5000 MNIST digits. Every 20th step the estimate is compared with the gradient
of all training images: `error` should fall below `batch_error`, that of the mini-batch itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainopt import DiagonalTO
from trainopt.data.sources import SOURCES
from trainopt.integrations.loggers import to_mlflow, to_tensorboard, to_wandb
from trainopt.integrations.monitor import Log, large_batch_gradient, monitor


@contextmanager
def logger(tool: str, out: str) -> Iterator[Log]:
    """Give a function that logs to the tool."""
    if tool == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(out) as writer:
            yield to_tensorboard(writer)
    elif tool == "wandb":
        import wandb

        with wandb.init(project="trainopt", mode="offline", dir=out) as run:
            yield to_wandb(run)
    else:
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
        run = client.create_run(client.create_experiment("trainopt"))
        yield to_mlflow(client, run.info.run_id)
        client.set_terminated(run.info.run_id)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, and return what was logged last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", choices=["tensorboard", "wandb", "mlflow"], default="tensorboard")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--out", default="runs/logging")
    options = parser.parse_args(argv)

    torch.manual_seed(0)
    x, y, _ = SOURCES["mnist"].read()
    images, labels = torch.tensor(x, dtype=torch.float32) / 255, torch.tensor(y)
    model = nn.Linear(784, 10)
    optimizer = DiagonalTO(model.parameters(), lr=0.1, alpha=0.01, beta=0.1, keep_estimate=True)
    values: dict[str, float] = {}
    with logger(options.to, options.out) as log:
        for step in range(1, options.steps + 1):
            rows = torch.randint(len(images), (32,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            due = step % options.every == 0
            if due:  # at the weights before the step, which is where the estimate is made
                truth = large_batch_gradient(
                    optimizer, lambda: nn.functional.cross_entropy(model(images), labels)
                )
            optimizer.step()
            if due:
                values = monitor(optimizer, truth)
                log(values, step)
    return values


if __name__ == "__main__":
    print(main(sys.argv[1:]))
