"""What the pictures of a comparison show: one table of them, and the curves in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainopt.harness.palette import PALETTE

# Below this a logarithmic axis shows nothing but rounding.
FLOOR = 1e-14


@dataclass(frozen=True)
class Picture:
    """One pair of axes.

    Attributes:
        name: the file name of its PNG.
        title: above it.
        x, y: columns of the runs.
        x_label, y_label: beside the axes.
        log: whether y is logarithmic.
        log_x: whether x is; its start at 0 is then left out.
    """

    name: str
    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    log: bool
    log_x: bool = False


PICTURES = (
    Picture("epochs", "Distance to the optimum", "epoch", "suboptimality", "epoch", "F − F*", True),
    Picture(
        "seconds",
        "The same, by time",
        "seconds",
        "suboptimality",
        "seconds of training",
        "F − F*",
        log=True,
        log_x=True,
    ),
    Picture(
        "estimator",
        "Error of the gradient estimate",
        "epoch",
        "estimator_error",
        "epoch",
        "‖Ĝ − ∇F‖²",
        True,
    ),
    Picture("validation", "Validation loss", "epoch", "val_loss", "epoch", "loss", True),
    Picture("accuracy", "Validation accuracy", "epoch", "val_accuracy", "epoch", "share", False),
)


@dataclass(frozen=True)
class Curve:
    """One optimizer in one picture: the mean over seeds, and the lowest and highest seed."""

    optimizer: str
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


Drawn: TypeAlias = list[tuple[Picture, list[Curve]]]


def pictures(runs: pd.DataFrame) -> Drawn:
    """The pictures that these runs have values for, with their curves."""
    drawn = [(picture, curves(runs, picture)) for picture in PICTURES]
    return [(picture, found) for picture, found in drawn if found]


def curves(runs: pd.DataFrame, picture: Picture) -> list[Curve]:
    """The curves of a picture, in the palette's order; diverged parts are left out."""
    found = []
    for name in PALETTE:
        part = runs[runs.optimizer == name]
        y = part[picture.y].where(np.isfinite(part[picture.y]))
        if picture.log:
            y = y.clip(lower=FLOOR)
        if picture.log_x:
            y = y.where(part[picture.x] > 0)
        table = (
            part.assign(value=y)
            .groupby("epoch")
            .agg(
                x=(picture.x, "mean"),
                # On a logarithmic axis the mean of what is seen is the geometric one.
                mean=("value", _geometric_mean if picture.log else "mean"),
                low=("value", "min"),
                high=("value", "max"),
            )
            .dropna()
        )
        if not table.empty:
            found.append(
                Curve(name, *(table[c].to_numpy(float) for c in ("x", "mean", "low", "high")))
            )
    return found


def _geometric_mean(values: pd.Series[float]) -> float:
    return float(np.exp(np.log(values).mean()))


def y_range(found: list[Curve], log: bool) -> tuple[float, float]:
    """The y values worth showing: all of them, but for runs on their way to divergence.

    These, which would press all others into a line, are cut off at 3 times (on a logarithmic axis
    1000 times) of where the middle curve starts or ends.
    """
    low = min(curve.low.min() for curve in found)
    highest = max(curve.high.max() for curve in found)
    usual = max(np.median([curve.mean[i] for curve in found]) for i in (0, -1))
    high = max(min(highest, usual * (1000 if log else 3)), low)
    if log:
        return low / 1.5, high * 1.5
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin
