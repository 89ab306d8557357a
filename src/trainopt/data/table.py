"""A table in text: its separator and header are found by looking, its cells checked one by one."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainopt.data.content import quoted
from trainopt.data.dataset import LARGEST
from trainopt.data.layout import (
    NUMBER,
    Layout,
    check_widths,
    find_layout,
    target_position,
    unreadable,
)
from trainopt.errors import InputError

# What other programs write for a missing value; as a class it needs another name.
_MISSING = ("", "?", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
_NAMES_ROWS = re.compile(
    r"(?i:(.*[\s_.-])?(id|idx|index|uuid|guid|row|row_?(id|nr|number)))|.*[a-z]I[dD]"
)


def read_table(
    path: Path, text: str, target: str | None, task_is_regression: bool
) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
    """Return features (rows, features), targets (rows,), and the names of the features.

    Left out are columns without a name that are empty, or that stand first and only number or
    name the rows, as pandas and R write them.

    Args:
        path: where the text is from, for sentences.
        text: the text.
        target: the name of the target column.
        task_is_regression: whether targets are float64 numbers; otherwise they are labels, str.

    Raises:
        InputError: there is no header or no such column, or a cell holds what it shouldn't.
    """
    layout = find_layout(path, text)
    names = layout.names
    position = target_position(path, layout, target)
    table = _parsed(path, layout, position)
    if table.empty:
        raise InputError(f"{path} has 0 rows of data: at least 10 are needed.")
    columns = [
        (name, table[i])
        for i, name in enumerate(names)
        if i != position and not (_is_nameless(name) and _says_nothing(path, names[:i], table[i]))
    ]
    x = _numbers(path, layout, columns, "turn the column into numbers, or remove it")
    for (name, _), values in zip(columns, x.T, strict=True):
        if _NAMES_ROWS.fullmatch(name) and _all_differ(values):
            raise InputError(
                f"Column {name} of {path} has a different whole number in each row, which names "
                "the row: remove the column, or rename it if it is a feature."
            )
    labels = table[position].str.strip()
    if task_is_regression:
        remedy = "choose a numeric target, or a classifier (logistic, softmax, svm)"
        y: NDArray[Any] = _numbers(path, layout, [(names[position], labels)], remedy)[:, 0]
    else:
        _check_labels(path, layout, names[position], labels)
        y = labels.to_numpy(object)
    return x, y, [name for name, _ in columns]


def _parsed(path: Path, layout: Layout, position: int) -> pd.DataFrame:
    """The rows below the header: numbers where a column has nothing else, otherwise text."""
    try:
        with warnings.catch_warnings():
            # A row longer than the header would otherwise lose cells.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.BytesIO(layout.text.encode()),
                sep=layout.separator,
                header=0,
                names=range(len(layout.names)),
                index_col=False,
                dtype={position: str},
                na_filter=False,
                skipinitialspace=True,
                low_memory=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        if "EOF inside string" not in str(error):
            check_widths(path, layout)
        raise unreadable(path, error) from error


def _is_nameless(name: str) -> bool:
    """Also what pandas calls such a column when it is read and written again."""
    return re.fullmatch(r"(Unnamed: \d+)?", name) is not None


def _says_nothing(path: Path, before: list[str], column: pd.Series[Any]) -> bool:
    """Whether a column without a name is empty, or the first and only numbers or names the rows."""
    texts = column.astype(str).str.strip()
    if (texts == "").all():
        return True
    values = _as_numbers(column)
    names_rows = _all_differ(values) or (np.isnan(values).all() and texts.is_unique)
    if names_rows and all(map(_is_nameless, before)):
        return True
    raise InputError(
        f"Column {len(before) + 1} of {path} has no name in the header: name it, or remove it."
    )


def _all_differ(values: NDArray[np.float64]) -> bool:
    return bool(np.all(values == np.floor(values))) and len(np.unique(values)) == len(values)


def _numbers(
    path: Path, layout: Layout, columns: list[tuple[str, pd.Series[Any]]], remedy: str
) -> NDArray[np.float64]:
    """The columns as float64 (rows, columns), after a look at each cell."""
    rows = len(columns[0][1]) if columns else 0
    x = np.empty((rows, len(columns)))
    faults: list[tuple[str, str]] = []
    for i, (name, column) in enumerate(columns):
        x[:, i] = _as_numbers(column)
        bad = ~(np.abs(x[:, i]) < LARGEST)
        if bad.any():
            text = str(column.iloc[bad.argmax()]).strip()
            if not text:
                check_widths(path, layout)
            faults.append((name, _fault(path, name, text, bad, x[bad.argmax(), i], remedy)))
    if faults:
        (_, sentence), *others = faults
        also = ", ".join(name for name, _ in others[:8]) + (", …" if len(others) > 8 else "")
        raise InputError(sentence + (f" (also columns {also})." if others else "."))
    return x


def _as_numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    """Float64; NaN for what isn't a number; 1 and 0 for true and false."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64)
    texts = column.astype(str).str.strip()
    values = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    return values.fillna(texts.str.lower().map({"true": 1.0, "false": 0.0})).to_numpy(np.float64)


def _fault(
    path: Path, name: str, text: str, bad: NDArray[np.bool_], value: float, remedy: str
) -> str:
    """The sentence about the first bad cell of a column, up to its full stop."""
    if not text and bad.all():
        return f"Column {name} of {path} is empty: remove it"
    if not text:
        return f"Column {name} of {path} is empty in {_rows(bad)}: fill it in, or remove the rows"
    found = f"Column {name} of {path} has {quoted(text)} in {_rows(bad)}, which"
    if not np.isnan(value):
        return f"{found} isn't below {LARGEST:g}: correct it, or remove the rows"
    if text in _MISSING:
        return f"{found} marks a missing value: fill it in, or remove the rows"
    if NUMBER.fullmatch(text):
        remedy = "write decimals with a point, and nothing between thousands"
    return f"{found} isn't a number: {remedy}"


def _rows(bad: NDArray[np.bool_]) -> str:
    """Where the first bad cell is, and how many there are."""
    more = f" and {bad.sum() - 1} more" if bad.sum() > 1 else ""
    return f"data row {bad.argmax() + 1}{more}"


def _check_labels(path: Path, layout: Layout, name: str, labels: pd.Series[str]) -> None:
    missing = labels.isin(_MISSING).to_numpy(bool)
    if not missing.any():
        return
    text = labels[missing.argmax()]
    if not text:
        check_widths(path, layout)
        raise InputError(
            f"Column {name} of {path} is empty in {_rows(missing)}: fill it in, or remove the rows."
        )
    raise InputError(
        f"Column {name} of {path} has {quoted(text)} in {_rows(missing)}, which marks a missing "
        f"value: fill it in, remove the rows, or, if {text} is a class, write it in another way."
    )
