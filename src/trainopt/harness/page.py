"""One page for every report: a verdict, the table, pictures, details, and how it was made.

A page holds all it needs, the library that draws its curves included, and asks no network.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, TypeAlias

from trainopt.harness.folder import write_whole
from trainopt.harness.markdown import Cells
from trainopt.harness.palette import MOST, at_most, looks
from trainopt.harness.provenance import commands, made_by

Figures: TypeAlias = dict[str, str]
"""What each picture file of the folder shows."""

# Characters from which on a cell is broken into lines.
_LONG = 60
_STROKES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: above it.
        note: what a reader must know, a paragraph of plain text per entry.
        tables: caption -> columns and rows.
        figures: file -> what it shows.
        curves: name of a problem -> its charts, from `plots.charts`, drawn by the page.
    """

    heading: str
    note: tuple[str, ...] = ()
    tables: Mapping[str, Cells] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)
    curves: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a folder of results says.

    Attributes:
        title: of the page.
        facts: what was run, in a sentence or two.
        verdict: what was found, in one or two plain sentences.
        sections: the first has the tables that a terminal shows, too.
        manifest: what made it, from `read_manifest`.
    """

    title: str
    facts: str
    verdict: list[str]
    sections: list[Section]
    manifest: dict[str, Any]


def write_page(report: Report, folder: Path) -> None:
    """Write report.html."""
    write_whole(folder / "report.html", page(report, folder).encode())


def page(report: Report, folder: Path) -> str:
    """The report as one HTML file.

    Args:
        report: what it says.
        folder: where its pictures are.
    """
    curves = any(section.curves for section in report.sections)
    return _template("page.html").substitute(
        style=_text("page.css"),
        title=escape(report.title),
        facts=escape(report.facts),
        verdict=_paragraphs(report.verdict),
        sections="\n".join(_section(section, folder) for section in report.sections),
        command=escape(commands(report.manifest)),
        made_by=escape(made_by(report.manifest)),
        script=_scripts() if curves else "",
    )


def html_table(caption: str, cells: Cells) -> str:
    """A table of texts, whose first column names the rows; a narrow window scrolls it."""
    columns, rows = cells
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(map(_cell, rest)) + "</tr>"
        for name, *rest in rows
    )
    name = escape(caption, quote=True)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(text: str) -> str:
    return f"<td{' class=text' if len(text) > _LONG else ''}>{escape(text)}</td>"


def _section(section: Section, folder: Path) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>", _paragraphs(section.note)]
    parts += [html_table(caption, cells) for caption, cells in section.tables.items()]
    if section.curves:
        parts.append(_curves(section.curves))
    parts += [_figure(folder / name, text) for name, text in section.figures.items()]
    return "<section>" + "\n".join(part for part in parts if part) + "</section>"


def _figure(path: Path, text: str) -> str:
    picture = base64.b64encode(path.read_bytes()).decode()
    alt = escape(f"Chart: {text.partition(':')[0]}", quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{picture}" alt="{alt}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def _curves(groups: Mapping[str, list[dict[str, Any]]]) -> str:
    """Charts, a box to hide each curve, and a choice of the problem where there are several."""
    every = [chart for charts in groups.values() for chart in charts]
    names = list(dict.fromkeys(name for chart in every for name in chart["lines"]))
    ends = {name: chart["lines"][name]["y"][-1] for chart in every[:1] for name in chart["lines"]}
    styles, first = looks(names), set(at_most(names, ends, MOST))
    boxes = "\n".join(_box(name, style, name in first) for name, style in styles.items())
    options = "".join(f"<option>{escape(group)}</option>" for group in groups)
    choice = f"<label>Problem: <select id='problem'>{options}</select></label>"
    places = "\n".join(
        "<figure><figcaption></figcaption><div class='chart' role='img'></div></figure>"
        for _ in range(max(map(len, groups.values())))
    )
    data = json.dumps({"styles": styles, "groups": groups}, separators=(",", ":"))
    return (
        f"{choice if len(groups) > 1 else ''}\n<fieldset id='names'><legend>Curves</legend>\n"
        f"{boxes}\n<button type='button' value='all'>all</button>\n"
        "<button type='button' value=''>none</button></fieldset>\n"
        f"<div class='charts'>{places}</div>\n"
        "<noscript><p>These curves need JavaScript; the PNG files of the folder have them, too.</p>"
        "</noscript>\n<script type='application/json' id='curves'>"
        + data.replace("<", "\\u003c")
        + "</script>"
    )


def _box(name: str, style: dict[str, Any], checked: bool) -> str:
    return (
        f'<label><input type="checkbox" value="{escape(name, quote=True)}"'
        f"{' checked' if checked else ''}>"
        f'<svg width="34" height="10" aria-hidden="true"><line x1="0" x2="34" y1="5" y2="5" '
        f'stroke="{style["colour"]}" stroke-width="{style["width"]}" '
        f'stroke-dasharray="{_STROKES[style["dash"]]}"/></svg>{escape(style["title"])}</label>'
    )


def _paragraphs(sentences: Iterable[str]) -> str:
    return "\n".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _scripts() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>\n<script>\n{_text('page.js')}</script>"


def _template(name: str) -> Template:
    return Template(_text(name))


def _text(name: str) -> str:
    return files("trainopt.harness").joinpath(name).read_text(encoding="utf-8")


def skipped(manifest: dict[str, Any]) -> tuple[str, ...]:
    """A note on what could not be run; the reasons, of that machine, are in run.json."""
    names = ", ".join(manifest["skipped"])
    return (f"Skipped, and not counted: {names} (run.json says why).",) if names else ()


def common(problems: str, trials: int, seeds: int) -> str:
    """What the runs of every study have in common, for the facts of its page."""
    return (
        f"{problems}; every tuned optimizer with {trials} trials, then {seeds} fresh seeds. "
        "Starting point and data order are common to all optimizers with one seed."
    )
