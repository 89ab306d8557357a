"""What a linear model is to the benchmark: a loss, an accuracy, and an independent solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainopt.data import Dataset, Features
from trainopt.harness.names import MODEL_TITLES


@dataclass(frozen=True)
class Model:
    """A linear model with the objective F(W) = mean_i ℓ(x_i W, y_i) + (l2/2)‖W‖².

    W has shape (features, outputs); scores are x W, of shape (rows, outputs).

    Attributes:
        name: what the model is called on the command line.
        fits: why a data set can't be used, as a sentence for the user; None when it can.
        outputs: the number of columns of W.
        loss: mean ℓ over the rows, a differentiable scalar, from scores and targets.
        slope: ∂ℓ/∂scores row by row, from scores (…, rows, outputs) and targets (…, rows), shaped
            as the scores; leading axes broadcast.
        accuracy: share of rows classified correctly, a scalar; None for a regression.
        solve: the minimiser of F, float64 (features, outputs), from x, y, outputs and l2, found
            without any of the torch code that it is a reference for.
    """

    name: str
    fits: Callable[[Dataset], str | None]
    outputs: Callable[[Dataset], int]
    loss: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    accuracy: Callable[[Tensor, Tensor], Tensor] | None
    solve: Callable[[Features, NDArray[Any], int, float], NDArray[np.float64]]

    @property
    def title(self) -> str:
        """The name in words."""
        return MODEL_TITLES[self.name]


def needs_classes(dataset: Dataset) -> str | None:
    """The sentence for a classifier given a regression data set, else None."""
    if dataset.classes is None:
        return f"{dataset.name} has a continuous target, not classes: use ridge."
    return None


def needs_number(dataset: Dataset) -> str | None:
    """The sentence for a regression given a data set with classes, else None."""
    if dataset.classes is not None:
        return f"{dataset.name} has classes, not a continuous target: use softmax or svm."
    return None


def accuracy(scores: Tensor, y: Tensor) -> Tensor:
    """Share of rows whose largest score, or whose one score's sign, gives the class.

    Args:
        scores: (rows, outputs); with one output a positive score means class 1.
        y: int64 (rows,), the classes.
    """
    guess = scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(dim=1)
    return (guess == y).to(scores.dtype).mean()
