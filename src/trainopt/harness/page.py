"""HTML pages: one style for all, templates beside the code that fills them, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template


def filled(package: str, template: str, **values: str) -> str:
    """Fill a template of a package; the common style goes in for $style.

    Args:
        package: where the template is.
        template: its file name.
        values: HTML for each $name in it.
    """
    style = files("trainopt.harness").joinpath("page.css").read_text(encoding="utf-8")
    text = files(package).joinpath(template).read_text(encoding="utf-8")
    return Template(text).substitute(style=style, **values)


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
