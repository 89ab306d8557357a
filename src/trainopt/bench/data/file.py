"""A user's own file: CSV or LIBSVM, checked before anything is done with it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn import datasets

from trainopt.bench.data.dataset import Dataset, Features, make_dataset
from trainopt.bench.errors import InputError

SVMLIGHT_ENDINGS = (".svm", ".libsvm", ".svmlight", ".txt")
# Squares of larger values, summed over rows, would overflow when the columns are standardised.
LARGEST = 1e100


def load_file(path: str | Path, target: str | None, task_is_regression: bool) -> Dataset:
    """Load a CSV or LIBSVM/svmlight file; the latter is known by its ending or its first line.

    CSV columns are standardised with training statistics. A LIBSVM file stays sparse, is scaled
    by the largest magnitude, and feature indices that occur in no row are left out.

    Args:
        path: the file.
        target: the target column of a CSV file; None for LIBSVM, which has it in the file.
        task_is_regression: whether the target is a number to predict, not a class.

    Raises:
        InputError: the file can't be used; the sentence says why and what to do.
    """
    path = Path(path)
    line = _first_line(path)
    is_svmlight = path.suffix.lower() in SVMLIGHT_ENDINGS or (
        re.match(r"[^\s,:]+(\s+\d+:\S+)+\s*(#.*)?$", line) is not None
    )
    x, y, columns = _read_svmlight(path, target) if is_svmlight else _read_csv(path, target)
    x = _checked_features(path, x, y, columns)
    labels: list[str] = []
    if task_is_regression:
        _check_regression(path, y)
    else:
        y, labels = _encoded(path, y)
    return make_dataset(path.stem, x, y, labels, f"file {path}")


def _first_line(path: Path) -> str:
    """The first line that isn't blank, stripped."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            line = next((line for line in map(str.strip, lines) if line), None)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} can't be read ({error}): give a CSV or LIBSVM text file."
        ) from error
    if line is None:
        raise InputError(f"{path} is empty: give a file with at least 10 rows of data.")
    return line


def _read_svmlight(path: Path, target: str | None) -> tuple[Features, NDArray[Any], list[str]]:
    if target is not None:
        raise InputError(
            f"{path} is a LIBSVM file, whose first field is the target: leave out target {target}."
        )
    try:
        # Counted from 0, column j is the file's own index j; an unused index 0 drops out later.
        x, y = datasets.load_svmlight_file(str(path), zero_based=True)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} can't be read as LIBSVM ({error}): mend that line, "
            "or name the file .csv when it is a CSV file."
        ) from error
    x = sparse.csr_array(x)
    used = np.flatnonzero(np.bincount(x.indices[x.data != 0], minlength=x.shape[1]))
    return x[:, used], y, [str(index) for index in used]


def _read_csv(path: Path, target: str | None) -> tuple[Features, NDArray[Any], list[str]]:
    try:
        with warnings.catch_warnings():
            # A row longer than the header would otherwise shift or lose columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, index_col=False, low_memory=False)
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} can't be read as CSV ({reason}): give a header line and as many "
            "comma-separated values in each row."
        ) from error
    names = [str(name) for name in table.columns]
    table.columns = pd.Index(names)
    known = ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
    if target is None:
        raise InputError(f"{path} is a CSV file: name its target column with --target ({known}).")
    if target not in names:
        raise InputError(f"{path} has no column {target}: take the target from {known}.")
    features = table.drop(columns=target)
    for name in features:
        if not pd.api.types.is_numeric_dtype(features[name]):
            raise InputError(
                f"Column {name} of {path} isn't numeric: turn it into numbers or remove it."
            )
    y = table[target]
    kind = np.float64 if pd.api.types.is_any_real_numeric_dtype(y) else object
    return features.to_numpy(np.float64), y.to_numpy(kind), [str(name) for name in features]


def _checked_features(path: Path, x: Features, y: NDArray[Any], columns: Sequence[str]) -> Features:
    """`x`, after refusing too few rows or columns, bad values and constant columns."""
    if len(y) < 10:
        raise InputError(f"{path} has {len(y)} rows of data: give at least 10.")
    if not columns:
        raise InputError(f"{path} has no feature column: give one besides the target.")
    with np.errstate(over="ignore"):
        bad = ~(abs(x).sum(axis=1) < LARGEST)
    bad |= pd.isna(y) if y.dtype == object else ~(abs(y) < LARGEST)
    if bad.any():
        raise InputError(
            f"{path} has missing, infinite or huge values in {bad.sum()} rows, the first is "
            f"data row {bad.argmax() + 1}: fill in or remove these rows."
        )
    lowest, highest = x.min(axis=0), x.max(axis=0)
    constant = (
        np.flatnonzero(np.asarray((highest - lowest).todense()) == 0)
        if sparse.issparse(x)
        else np.flatnonzero(highest == lowest)
    )
    if constant.size:
        raise InputError(
            f"Column {columns[constant[0]]} of {path} has the same value in every row: remove it."
        )
    return x


def _check_regression(path: Path, y: NDArray[Any]) -> None:
    if y.dtype == object:
        raise InputError(
            f"The target of {path} isn't numeric, as regression needs: "
            "choose a numeric column, or a classifier (logistic, softmax, svm)."
        )
    if np.ptp(y) == 0:
        raise InputError(f"The target of {path} is {y[0]:g} in every row: choose another column.")


def _encoded(path: Path, y: NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """The classes as 0, 1, … in sorted order, and their labels."""
    values, codes, counts = np.unique(
        y if y.dtype != object else y.astype(str), return_inverse=True, return_counts=True
    )
    labels = [str(value) for value in values]
    if y.dtype != object:
        labels = [label.removesuffix(".0") for label in labels]
        if np.any(values % 1) and len(values) > min(20, len(y) // 2):
            raise InputError(
                f"The target of {path} has {len(values)} distinct fractional values, which are no "
                "classes: use ridge, or choose another column."
            )
    if len(values) == 1:
        raise InputError(
            f"The target of {path} is {labels[0]} in every row: give at least two classes."
        )
    if counts.min() < 2:
        raise InputError(
            f"Class {labels[counts.argmin()]} of {path} has only 1 row: give each class at least "
            "2 rows, or use ridge when the target is a number to predict."
        )
    if len(values) > len(y) // 5:
        raise InputError(
            f"{path} has {len(values)} classes in {len(y)} rows, too few to validate on each: "
            f"give at least {5 * len(values)} rows."
        )
    return codes.astype(np.int64), labels
