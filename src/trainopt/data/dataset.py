"""A data set as the problems take it: split, scaled, with the bias as its last feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

Features: TypeAlias = NDArray[np.float64] | sparse.csr_array
Scaling: TypeAlias = Literal["standard", "raw"] | float

# Squares of larger values, summed over rows, would overflow when columns are standardised.
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and scaled; the last feature is the constant 1 (the bias).

    Attributes:
        name: short name, a part of the problem's name.
        x_train: float64 (n, features), dense or CSR.
        y_train: (n,), int64 in 0 … classes - 1, or float64 for a regression.
        x_val: float64 (n_val, features), of the same kind as `x_train`.
        y_val: (n_val,), of the same kind as `y_train`.
        classes: number of classes; None for a regression.
        labels: what the classes are called, in order; empty for a regression.
        source: where the data come from, in words.
    """

    name: str
    x_train: Features
    y_train: NDArray[Any]
    x_val: Features
    y_val: NDArray[Any]
    classes: int | None
    labels: tuple[str, ...]
    source: str


def make_dataset(
    name: str,
    x: Features,
    y: NDArray[Any],
    labels: Sequence[str],
    source: str,
    *,
    scaling: Scaling = "standard",
    drop_constant: bool = False,
    held_out: int | None = None,
) -> Dataset:
    """Split the rows, scale the features by the training part, append the bias.

    Args:
        name: short name.
        x: float64 (rows, features).
        y: (rows,), classes 0, 1, … or a number, which is standardised.
        labels: what the classes are called; empty for a regression.
        source: where the data come from.
        scaling: "standard": every column to mean 0 and variance 1 (CSR: by its largest magnitude);
            "raw": all by one number, the root mean square of the training entries, so that the
            columns keep their proportions; or that number.
        drop_constant: leave out columns that are constant over the training rows.
        held_out: how many of the last rows validate; None takes a random fifth, with seed 0,
            stratified by class.
    """
    if held_out is None:
        train, val = train_test_split(
            np.arange(len(y)),
            test_size=len(y) // 5,
            random_state=0,
            stratify=y if labels else None,
        )
    else:
        train, val = np.split(np.arange(len(y)), [len(y) - held_out])
    x_train, x_val = x[train], x[val]
    if drop_constant:
        varies = np.ptp(x_train, axis=0) > 0
        x_train, x_val = x_train[:, varies], x_val[:, varies]
    if scaling == "standard":
        # Centring would fill a sparse matrix.
        scaler = (MaxAbsScaler if sparse.issparse(x) else StandardScaler)().fit(x_train)
        x_train, x_val = scaler.transform(x_train), scaler.transform(x_val)
    else:
        divisor = np.sqrt(np.square(x_train).mean()) if scaling == "raw" else scaling
        x_train, x_val = x_train / divisor, x_val / divisor
    if not labels:
        target = StandardScaler().fit(y[train, None])
        y = target.transform(y[:, None])[:, 0]
    return Dataset(
        name=name,
        x_train=_with_bias(x_train),
        y_train=y[train],
        x_val=_with_bias(x_val),
        y_val=y[val],
        classes=len(labels) or None,
        labels=tuple(labels),
        source=source,
    )


def _with_bias(x: Features) -> Features:
    ones = np.ones((x.shape[0], 1))
    if sparse.issparse(x):
        joined = sparse.csr_array(sparse.hstack([x, sparse.csr_array(ones)], format="csr"))
        if joined.nnz < 2**31:  # liblinear and others read indices of 32 bits only
            joined.indices = joined.indices.astype(np.int32)
            joined.indptr = joined.indptr.astype(np.int32)
        return joined
    return np.hstack([x, ones])
