"""How a table is laid out in text: the separator and the header, found by looking at the lines."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

from trainopt.data.content import first_lines, lines_of, quoted
from trainopt.errors import InputError, did_you_mean

# Also with commas, which other programs write for decimals and between thousands.
NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)
_SPACES = r"\s+"


class Layout(NamedTuple):
    """Of a table: the text from its header on, the separator, the header, and some rows below it.

    Names and cells have no spaces around them; a name is on one line.
    """

    text: str
    separator: str
    names: list[str]
    rows: list[list[str]]


def find_layout(path: Path, text: str) -> Layout:
    """Look at the first lines of a text for its separator and header.

    The separator is a comma, semicolon, tab, bar or spaces. Comments (#) above the header are
    skipped, and a line sep= is heeded.

    Args:
        path: where the text is from, for sentences.
        text: the text.

    Raises:
        InputError: a quotation mark is never closed.
    """
    stated = re.match(r'"?sep=([,;|\t])"?\n', text)  # by Excel
    text = text[stated.end() :] if stated else text
    comments = "".join(takewhile(_is_comment, lines_of(text)))
    text = text[len(comments) :]
    try:
        return _sampled_below(comments, text, stated and stated.group(1))
    except csv.Error as error:
        raise unreadable(path, error) from error


def _sampled_below(comments: str, text: str, separator: str | None) -> Layout:
    layout = _sampled(text, separator)
    if comments and any(map(NUMBER.fullmatch, layout.names)):
        # NumPy's savetxt and some others write the header as a comment.
        last = comments.rstrip().rpartition("\n")[2].lstrip("# ")
        with_header = _sampled(f"{last}\n{text}", layout.separator)
        if len(with_header.names) == len(layout.names):
            return with_header
    return layout


def _is_comment(line: str) -> bool:
    return line.lstrip()[:1] in ("", "#")


def _sampled(text: str, separator: str | None) -> Layout:
    lines = first_lines(text)
    separator = separator or max((*"\t;|,", _SPACES), key=lambda each: _agreement(lines, each))
    header, *rows = list(_fields(lines, separator)) or [[]]
    header = [" ".join(name.split()) for name in header]
    if rows and all(len(row) == len(header) + 1 and not row[-1] for row in rows):
        header.append("")  # each row ends in a separator, the header doesn't
    return Layout(text, separator, header, rows)


def _agreement(lines: Sequence[str], separator: str) -> tuple[bool, float]:
    """How well a separator explains the lines: the share that have as many fields as the first.

    Spaces are the last resort, as they also stand after separators and in texts.
    """
    counts: list[int] = []
    with suppress(csv.Error):  # a long line without this separator is too large for one field
        counts.extend(len(row) for row in _fields(lines, separator))
    if not counts or counts[0] < 2:
        return False, 0.0
    return separator != _SPACES, counts.count(counts[0]) / len(counts)


def _fields(lines: Iterable[str], separator: str) -> Iterable[list[str]]:
    if separator == _SPACES:
        lines, separator = (" ".join(line.split()) for line in lines), " "
    for row in csv.reader(lines, delimiter=separator, skipinitialspace=True):
        if len(row) > 1 or any(row):  # as pandas counts rows
            yield [cell.strip() for cell in row]


def target_position(path: Path, layout: Layout, target: str | None) -> int:
    """Where the target column is, after a look at the header.

    Args:
        path: where the text is from, for sentences.
        layout: the header and some rows.
        target: the name of the column.

    Raises:
        InputError: the first line is no header, the target isn't in it, or a name is twice.
    """
    names = layout.names
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in names if name]
    known = ", ".join(shown[:8]) + (f", … ({len(shown)} in all)" if len(shown) > 8 else "")
    target = " ".join(target.split()) if target is not None else None
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
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise InputError(f"{path} has {count} columns named {name}: keep one, or rename them.")
    return names.index(target)


def _is_header(layout: Layout, target: str | None) -> bool:
    """Whether the first line names the columns, and isn't the first row of data."""
    names = layout.names
    numbers = [name for name in names if NUMBER.fullmatch(name)]
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


def check_widths(path: Path, layout: Layout) -> None:
    """Refuse a row that has more or fewer cells than the header."""
    width = len(layout.names)
    rows = islice(_fields(lines_of(layout.text), layout.separator), 1, None)
    found = None
    with suppress(csv.Error):  # what pandas has a reason for already
        found = next(((i, row) for i, row in enumerate(rows, 1) if len(row) != width), None)
    if found is not None:
        number, row = found
        raise InputError(
            f"The number of cells in data row {number} of {path} is {len(row)}, in the header "
            f"{width}: write as many in each row, decimals with a point, and cells that contain "
            "the separator in quotation marks."
        )


def unreadable(path: Path, error: Exception | Warning) -> InputError:
    """The sentence for a parser's error."""
    reason = " ".join(str(error).split())
    return InputError(f"{path} can't be read as CSV ({reason}): close each quotation mark.")
