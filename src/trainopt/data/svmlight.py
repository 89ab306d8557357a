"""LIBSVM (svmlight) text: a label and index:value pairs in each row, read into a sparse matrix."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import datasets

from trainopt.data.content import first_lines, lines_of, quoted
from trainopt.data.dataset import LARGEST
from trainopt.errors import InputError

_PAIRS = re.compile(r"\S+(\s+qid:\d+)?(\s+-?\d+:[^\s:;,|]*)+")
_LARGEST_INDEX = 2**31 - 1


def is_svmlight(text: str) -> bool:
    """Whether most of the first rows with several fields are a label and index:value pairs."""
    rows = [row for _, row in _rows(first_lines(text)) if len(row.split()) > 1]
    return 2 * sum(_PAIRS.fullmatch(row) is not None for row in rows) > len(rows)


def read_svmlight(path: Path, text: str) -> tuple[sparse.csr_array, NDArray[Any], list[str]]:
    """Return features (rows, used indices), float64 targets (rows,), and the indices as names.

    Indices may start at 0 or 1 and be as large as they like: those that no row uses are left out.

    Args:
        path: where the text is from, for sentences.
        text: the text; comments (#) and query ids (qid:) are skipped.

    Raises:
        InputError: a line isn't LIBSVM, or a number isn't finite or is too large.
    """
    try:
        # Counted from 0, column j is the file's own index j.
        x, y = datasets.load_svmlight_file(io.BytesIO(text.encode()), zero_based=True)
    except (ValueError, OverflowError) as error:
        fault = _first_fault(text) or str(error)
        raise InputError(f"{path} can't be read as LIBSVM, {fault}: correct that line.") from error
    bad_labels = ~(np.abs(y) < LARGEST)
    if bad_labels.any():
        row = bad_labels.argmax()
        raise InputError(f"Row {row + 1} of {path} has the label {y[row]:g}: correct or remove it.")
    bad = ~(np.abs(x.data) < LARGEST)
    if bad.any():
        entry = bad.argmax()
        row = np.searchsorted(x.indptr, entry, side="right")
        raise InputError(
            f"Row {row} of {path} has {x.data[entry]:g} at index {x.indices[entry]}: "
            f"correct it to a number below {LARGEST:g}, or remove the row."
        )
    x.eliminate_zeros()
    used, columns = np.unique(x.indices, return_inverse=True)
    shape = (len(y), len(used))
    return sparse.csr_array((x.data, columns, x.indptr), shape), y, [str(index) for index in used]


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The number of each line that has a row, and the row without its comment."""
    for number, line in enumerate(lines, 1):
        row = line.partition("#")[0].strip()
        if row:
            yield number, row


def _first_fault(text: str) -> str | None:
    """What is wrong with the first line that scikit-learn's loader can't read."""
    for number, row in _rows(lines_of(text)):
        label, *pairs = row.split()
        if re.fullmatch(r"[^,]+(,[^,]+)+", label):
            return f"line {number} has several labels ({quoted(label)}), where one is needed"
        if not _is_number(label):
            return f"line {number} has the label {quoted(label)}, which isn't a number"
        before = -1
        for pair in pairs[1:] if pairs and pairs[0].startswith("qid:") else pairs:
            index, _, value = pair.partition(":")
            if not re.fullmatch(r"\d+", index) or not _is_number(value):
                return f"line {number} has {quoted(pair)}, which isn't an index:value pair"
            if int(index) > _LARGEST_INDEX:
                return f"line {number} has index {index}, beyond the largest, {_LARGEST_INDEX}"
            if int(index) <= before:
                return f"line {number} has index {index} after {before}, where indices must rise"
            before = int(index)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
