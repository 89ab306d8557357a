"""What a deep task is: rows for four purposes, a model to train on them, and a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Rows:
    """Inputs and targets.

    Attributes:
        inputs: what the model is called with, each of n rows.
        targets: with n rows: int64, (n,) for a class per row, or (n, length) for a token per
            place; what a loss of one's own takes.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        """Some of the rows."""
        return Rows(tuple(x[index] for x in self.inputs), self.targets[index])

    def to(self, device: torch.device) -> Rows:
        """The same on a device."""
        return Rows(tuple(x.to(device) for x in self.inputs), self.targets.to(device))


@dataclass(frozen=True)
class Loss:
    """What is minimised.

    Attributes:
        mean: mean(outputs, targets) over a mini-batch, 0-dim.
        total: the same, summed over the targets.
        right: right(outputs, targets): how many targets the outputs meet; NaN where that has no
            meaning.
    """

    mean: Callable[[Any, Tensor], Tensor]
    total: Callable[[Any, Tensor], Tensor]
    right: Callable[[Any, Tensor], float]


def _flat(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return logits.flatten(0, -2), targets.flatten()


def _right(logits: Tensor, targets: Tensor) -> float:
    flat, classes = _flat(logits, targets)
    return (flat.argmax(1) == classes).sum().item()


CROSS_ENTROPY = Loss(
    mean=lambda logits, targets: functional.cross_entropy(*_flat(logits, targets)),
    total=lambda logits, targets: functional.cross_entropy(
        *_flat(logits.float(), targets), reduction="sum"
    ),
    right=_right,
)


@dataclass(frozen=True)
class Ready:
    """A task with its data read and its model at hand.

    Attributes:
        train: rows that are trained on.
        tune: rows that a trial of the search is scored on.
        validation: rows that final runs are judged on.
        probe: rows that ∇F is measured on. All four are disjoint.
        model: makes the model at its starting point; what is random comes from torch's seed.
        tokens: tokens in a row; 1 where rows are images or sentences.
        facts: more for the report, such as the source of the data.
        loss: what is minimised.
    """

    train: Rows
    tune: Rows
    validation: Rows
    probe: Rows
    model: Callable[[], nn.Module]
    tokens: int
    facts: dict[str, Any]
    loss: Loss = CROSS_ENTROPY

    def to(self, device: torch.device) -> Ready:
        """The same with its rows on a device."""
        names = ("train", "tune", "validation", "probe")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def mean_loss(model: nn.Module, rows: Rows, loss: Loss = CROSS_ENTROPY) -> Tensor:
    """The mean loss over all targets."""
    return loss.mean(model(*rows.inputs), rows.targets)


def split(rows: Rows, tune: int, validation: int, probe: int, seed: int = 0) -> dict[str, Rows]:
    """Shuffle the rows, always alike, and deal them out; what is left is for training."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    sizes = [tune, validation, probe, len(rows) - tune - validation - probe]
    names = ("tune", "validation", "probe", "train")
    return {name: rows[part] for name, part in zip(names, pieces(order, sizes), strict=True)}


def pieces(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """Cut a tensor along its first axis into pieces of these sizes."""
    return list(x.split(sizes))  # type: ignore[no-untyped-call]
