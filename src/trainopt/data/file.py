"""A user's own file: CSV or LIBSVM, told apart by content and checked before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from trainopt.data.content import read_text
from trainopt.data.dataset import Dataset, Features, make_dataset
from trainopt.data.svmlight import is_svmlight, read_svmlight
from trainopt.data.table import read_table
from trainopt.errors import InputError


def load_file(path: str | Path, target: str | None, task_is_regression: bool) -> Dataset:
    """Load a CSV or LIBSVM file, known by its content; docs/compare.md says what is read and how.

    CSV columns are standardised with training statistics. A LIBSVM file stays sparse, is scaled
    by the largest magnitude, and feature indices that occur in no row are left out.

    Args:
        path: the file, or a pipe; gzip, bzip2, xz and zip are unpacked.
        target: the target column of a CSV file; None for LIBSVM, which has it in the file.
        task_is_regression: whether the target is a number to predict, not a class.

    Raises:
        InputError: the file can't be used; the sentence says why and what to do.
    """
    path = Path(path)
    text = read_text(path)
    x: Features
    if is_svmlight(text):
        if target is not None:
            raise InputError(
                f"{path} is a LIBSVM file, whose first field is the target: "
                f"leave out target {target}."
            )
        x, y, columns = read_svmlight(path, text)
    else:
        x, y, columns = read_table(path, text, target, task_is_regression)
    _check_features(path, x, columns)
    labels: list[str] = []
    if not task_is_regression:
        y, labels = _encoded(path, y)
    elif np.ptp(y) == 0:
        raise InputError(f"The target of {path} is {y[0]:g} in every row: choose another column.")
    return make_dataset(path.stem, x, y, labels, f"file {path}")


def _check_features(path: Path, x: Features, columns: Sequence[str]) -> None:
    """Refuse too few rows or columns, and constant columns."""
    if not columns:
        raise InputError(f"{path} has no feature column: one is needed besides the target.")
    if x.shape[0] < 10:
        raise InputError(f"{path} has {x.shape[0]} rows of data: at least 10 are needed.")
    lowest, highest = x.min(axis=0), x.max(axis=0)
    if sparse.issparse(x):
        lowest, highest = lowest.toarray(), highest.toarray()
    constant = np.flatnonzero(highest == lowest)
    if constant.size:
        raise InputError(
            f"Column {columns[constant[0]]} of {path} has the same value in every row: remove it."
        )


def _encoded(path: Path, y: NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """The classes as 0, 1, … in sorted order, and their labels; 1, 1.0 and 01 are one class."""
    codes, distinct = pd.factorize(y)
    numbers = pd.to_numeric(pd.Series(distinct), errors="coerce").to_numpy()
    if np.isfinite(numbers).all():
        values, merged = np.unique(numbers, return_inverse=True)
        labels = [str(value).removesuffix(".0") for value in values]
    else:
        values, merged = np.unique(distinct.astype(str), return_inverse=True)
        labels = [str(value) for value in values]
    codes = merged[codes].astype(np.int64)
    counts = np.bincount(codes)
    if values.dtype.kind == "f" and np.any(values % 1) and len(values) > min(20, len(y) // 2):
        raise InputError(
            f"The target of {path} has {len(values)} distinct fractional values, which are no "
            "classes: use ridge or huber, or choose another column."
        )
    if len(values) == 1:
        raise InputError(
            f"The target of {path} is {labels[0]} in every row: at least two classes are needed."
        )
    if counts.min() < 2:
        raise InputError(
            f"Class {labels[counts.argmin()]} of {path} has only 1 row: each class needs at least "
            "2, or use ridge or huber when the target is a number to predict."
        )
    if len(values) > len(y) // 5:
        raise InputError(
            f"{path} has {len(values)} classes in {len(y)} rows, too few to validate on each: "
            f"at least {5 * len(values)} rows are needed."
        )
    return codes, labels
