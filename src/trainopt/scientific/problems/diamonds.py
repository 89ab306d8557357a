"""A regression on real data: log prices of diamonds by a small network."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trainopt.data.sources import load
from trainopt.scientific.network import Network
from trainopt.scientific.problem import Problem

TRAINED = 2048


def diamonds() -> Problem:
    """Least squares on 2 048 diamonds; the error is that of rows kept apart."""
    data = load("diamonds")
    trained, kept = (np.asarray(x)[:, :-1] for x in (data.x_train, data.x_val))
    rows = torch.tensor(np.column_stack([trained[:TRAINED], data.y_train[:TRAINED]]))
    ends = [1.0] * (rows.shape[1] - 1)  # the features are standardised
    return Problem(
        "diamonds",
        "Diamonds, regression",
        partial(Network, [-end for end in ends], ends, (32, 32)),
        rows,
        residuals,
        torch.tensor(kept),
        torch.tensor(data.y_val),
    )


def residuals(network: Network, rows: Tensor) -> Tensor:
    """Of the log price; rows are the features and it: (rows, 1)."""
    difference: Tensor = network(rows[:, :-1]) - rows[:, -1]
    return difference[:, None]
