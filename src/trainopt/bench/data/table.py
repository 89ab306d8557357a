"""A table in text: its separator and header are found by looking, its cells checked one by one."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainopt.bench.data.content import quoted
from trainopt.bench.data.dataset import LARGEST
from trainopt.bench.errors import InputError, did_you_mean

_SPACES = r"\s+"
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)
# What other programs write for a missing value; as a class it needs another name.
_MISSING = ("", "?", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
_NAMES_ROWS = re.compile(
    r"(?i:(.*[\s_.-])?(id|idx|index|uuid|guid|row|row_?(id|nr|number)))|.*[a-z]I[dD]"
)


def read_table(
    path: Path, text: str, target: str | None, task_is_regression: bool
) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
    """Return features (rows, features), targets (rows,), and the names of the features.

    The separator is a comma, semicolon, tab, bar or spaces. A column without a name that only
    numbers or names the rows is left out, as is one that is empty.

    Args:
        path: where the text is from, for sentences.
        text: the text; comments (#) and sep= above the header are skipped.
        target: the name of the target column.
        task_is_regression: whether targets are float64 numbers; otherwise they are labels, str.

    Raises:
        InputError: there is no header or no such column, or a cell holds what it shouldn't.
    """
    try:
        layout = _layout(text)
    except csv.Error as error:
        raise _unreadable(path, error) from error
    names = layout.names
    position = _position(path, layout, target)
    table = _parsed(path, layout, position)
    if table.empty:
        raise InputError(f"{path} has 0 rows of data: at least 10 are needed.")
    columns = [
        (names[i], table[i])
        for i in range(len(names))
        if i != position and not (_is_nameless(names[i]) and _says_nothing(path, i, table[i]))
    ]
    x = _numbers(path, layout, columns, "turn the column into numbers, or remove it")
    for (name, _), values in zip(columns, x.T, strict=True):
        if _NAMES_ROWS.fullmatch(name) and _all_differ(values):
            raise InputError(
                f"Column {name} of {path} has another whole number in each row, so that it names "
                "rows and is no feature: remove it, or rename it if it is one."
            )
    labels = table[position].str.strip()
    if task_is_regression:
        remedy = "choose a numeric target, or a classifier (logistic, softmax, svm)"
        y: NDArray[Any] = _numbers(path, layout, [(names[position], labels)], remedy)[:, 0]
    else:
        _check_labels(path, layout, names[position], labels)
        y = labels.to_numpy(object)
    return x, y, [name for name, _ in columns]


class _Layout(NamedTuple):
    """The text from its header on, the separator, the header, and some rows below it."""

    text: str
    separator: str
    names: list[str]
    rows: list[list[str]]


def _layout(text: str) -> _Layout:
    stated = re.match(r'"?sep=(.)"?\n', text)  # by Excel
    text = text[stated.end() :] if stated else text
    comments = "".join(takewhile(_is_comment, io.StringIO(text)))
    text = text[len(comments) :]
    layout = _sampled(text, stated and stated.group(1))
    if comments and any(map(_NUMBER.fullmatch, layout.names)):
        # NumPy's savetxt and some others write the header as a comment.
        last = comments.rstrip().rpartition("\n")[2].lstrip("# ")
        with_header = _sampled(f"{last}\n{text}", layout.separator)
        if len(with_header.names) == len(layout.names):
            return with_header
    return layout


def _is_comment(line: str) -> bool:
    return line.lstrip()[:1] in ("", "#")


def _sampled(text: str, separator: str | None) -> _Layout:
    lines = list(islice(io.StringIO(text), 200))
    separator = separator or max((*"\t;|,", _SPACES), key=lambda each: _agreement(lines, each))
    header, *rows = list(_fields(lines, separator)) or [[]]
    return _Layout(text, separator, header, rows)


def _agreement(lines: Sequence[str], separator: str) -> tuple[bool, float]:
    """How well a separator explains the lines: the share that have as many fields as the first.

    Spaces are the last resort, as they also stand after separators and in texts.
    """
    counts = [len(row) for row in _fields(lines, separator)]
    if not counts or counts[0] < 2:
        return False, 0.0
    return separator != _SPACES, counts.count(counts[0]) / len(counts)


def _fields(lines: Iterable[str], separator: str) -> Iterable[list[str]]:
    if separator == _SPACES:
        lines, separator = (" ".join(line.split()) for line in lines), " "
    for row in csv.reader(lines, delimiter=separator, skipinitialspace=True):
        if any(row):
            yield [cell.strip() for cell in row]


def _position(path: Path, layout: _Layout, target: str | None) -> int:
    """Where the target column is, after a look at the header."""
    names = layout.names
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in names if name]
    known = ", ".join(shown[:8]) + (f", … ({len(shown)} in all)" if len(shown) > 8 else "")
    target = target.strip() if target is not None else None
    if not _is_header(layout, target):
        raise InputError(
            f"{path} seems to have no header, since its first line is "
            f"{quoted(', '.join(names))}: write the names of the columns above it."
        )
    if target is None:
        raise InputError(f"{path} is a CSV file: name its target column with --target ({known}).")
    if not target or target not in names:
        hint = did_you_mean(target, names)
        raise InputError(f"{path} has no column {target}: {hint}take the target from {known}.")
    for name in filter(None, names):
        if names.count(name) > 1:
            raise InputError(
                f"{path} has {names.count(name)} columns named {name}: keep one, or rename them."
            )
    return names.index(target)


def _is_header(layout: _Layout, target: str | None) -> bool:
    """Whether the first line names the columns, and isn't the first row of data."""
    names = layout.names
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if not numbers:
        return True
    if target in names and target not in numbers:
        # A word is a name, unless it is a label that comes again below.
        place = names.index(target)
        return all(row[place : place + 1] != [target] for row in layout.rows)
    if not all(map(str.isdecimal, numbers)):
        return False
    if target is None and len(numbers) < len(names):
        return True
    # Years, or the columns that pandas numbers.
    first = int(numbers[0])
    return len(numbers) > 2 and [*map(int, numbers)] == [*range(first, first + len(numbers))]


def _parsed(path: Path, layout: _Layout, position: int) -> pd.DataFrame:
    """The rows below the header: numbers where a column has nothing else, otherwise text."""
    try:
        with warnings.catch_warnings():
            # A row longer than the header would otherwise lose cells.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(layout.text),
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
        _check_widths(path, layout)
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception | Warning) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{path} can't be read as CSV ({reason}): close each quotation mark.")


def _check_widths(path: Path, layout: _Layout) -> None:
    """Refuse a row that has more or fewer cells than the header."""
    width = len(layout.names)
    rows = _fields(io.StringIO(layout.text), layout.separator)
    found = None
    with suppress(csv.Error):  # what pandas has a reason for already
        found = next(((i, row) for i, row in enumerate(rows) if len(row) != width), None)
    if found is not None:
        number, row = found
        raise InputError(
            f"Data row {number} of {path} has {len(row)} cells, the header has {width}: write as "
            "many in each row, decimals with a point, and cells that contain the separator in "
            "quotation marks."
        )


def _is_nameless(name: str) -> bool:
    """Also what pandas calls such a column when it is read and written again."""
    return re.fullmatch(r"(Unnamed: \d+)?", name) is not None


def _says_nothing(path: Path, place: int, column: pd.Series[Any]) -> bool:
    """Whether a column without a name is empty, or only numbers or names the rows."""
    texts = column.astype(str).str.strip()
    values = _as_numbers(column)
    if (texts == "").all() or _all_differ(values):
        return True
    if np.isnan(values).all() and texts.is_unique:
        return True
    raise InputError(
        f"Column {place + 1} of {path} has no name in the header: name it, or remove it."
    )


def _all_differ(values: NDArray[np.float64]) -> bool:
    return bool(np.all(values == np.floor(values))) and len(np.unique(values)) == len(values)


def _numbers(
    path: Path, layout: _Layout, columns: list[tuple[str, pd.Series[Any]]], remedy: str
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
                _check_widths(path, layout)
            faults.append((name, _fault(path, name, text, bad, x[bad.argmax(), i], remedy)))
    if faults:
        (_, sentence), *others = faults
        also = ", ".join(name for name, _ in others[:8]) + (", …" if len(others) > 8 else "")
        more = f" Columns like it: {also}." if others else ""
        raise InputError(f"{sentence}{more}")
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
    """The sentence about the first bad cell of a column."""
    if not text and bad.all():
        return f"Column {name} of {path} is empty: remove it."
    if not text:
        return f"Column {name} of {path} is empty in {_rows(bad)}: fill it in, or remove the rows."
    found = f"Column {name} of {path} has {quoted(text)} in {_rows(bad)}, which"
    if not np.isnan(value):
        return f"{found} isn't below {LARGEST:g}: correct it, or remove the rows."
    if text in _MISSING:
        return f"{found} marks a missing value: fill it in, or remove the rows."
    if _NUMBER.fullmatch(text):
        return f"{found} isn't a number here: write decimals with a point, thousands without mark."
    return f"{found} isn't a number: {remedy}."


def _rows(bad: NDArray[np.bool_]) -> str:
    """Where the first bad cell is, and how many there are."""
    more = f" and {bad.sum() - 1} more" if bad.sum() > 1 else ""
    return f"data row {bad.argmax() + 1}{more}"


def _check_labels(path: Path, layout: _Layout, name: str, labels: pd.Series[str]) -> None:
    missing = labels.isin(_MISSING).to_numpy(bool)
    if not missing.any():
        return
    text = labels[missing.argmax()]
    if not text:
        _check_widths(path, layout)
        raise InputError(
            f"Column {name} of {path} is empty in {_rows(missing)}: fill it in, or remove the rows."
        )
    raise InputError(
        f"Column {name} of {path} has {quoted(text)} in {_rows(missing)}, which marks a missing "
        f"value: fill it in, remove the rows, or, if {text} is a class, write it in another way."
    )
