"""Numbers and signs as texts, alike in every table, and a data frame as a table of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from trainopt.harness.markdown import Cells


def number(value: float, form: str, unit: str = "") -> str:
    """A number in a format, with its unit; – for NaN, and ∞."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{form}}{unit}"


def interval(low: float, high: float, form: str) -> str:
    """An interval in brackets, after a space; nothing for NaN."""
    return "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"


def cells(table: pd.DataFrame, titles: Mapping[str, str], corner: str = "") -> Cells:
    """A data frame as texts: the index first, where names have their titles.

    Args:
        table: numbers and texts.
        titles: of the names in the index.
        corner: the name of the first column; the index's own by default.
    """
    names = [corner or str(name or "") for name in table.index.names]
    rows = []
    for keys, values in zip(table.index, table.to_numpy(object), strict=True):
        index = keys if isinstance(keys, tuple) else (keys,)
        rows.append([*(titles.get(str(k), str(k)) for k in index), *map(_cell, values)])
    return [*names, *map(str, table.columns)], rows


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        exact = math.isfinite(value) and value == int(value) and abs(value) < 1e6
        return number(value, ".0f" if exact else ".3g")
    return str(value)
