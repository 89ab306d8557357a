"""The page of a study whose findings are a summary.md: its sentences, tables and pictures."""

from __future__ import annotations

from pathlib import Path

from trainopt.harness.folder import read_manifest
from trainopt.harness.markdown import Cells
from trainopt.harness.page import Report, Section, write_page
from trainopt.harness.terminal import show_report


def draw_summary(folder: Path, title: str) -> None:
    """Write report.html from summary.md and the pictures beside it, and print what it says."""
    verdict: list[str] = []
    tables: dict[str, Cells] = {}
    for block in (folder / "summary.md").read_text(encoding="utf-8").strip().split("\n\n"):
        if block.startswith("|"):
            tables[f"Table {len(tables) + 1}"] = cells_of(block)
        else:
            verdict += [line.removeprefix("- ") for line in block.splitlines()]
    pictures = {path.name: path.stem for path in sorted(folder.glob("*.png"))}
    sections = [Section("What was found", tables=tables), Section("Pictures", figures=pictures)]
    report = Report(title, "", verdict, sections, read_manifest(folder) or {})
    write_page(report, folder)
    show_report(report, folder)


def cells_of(table: str) -> Cells:
    """The columns and rows of a table in Markdown."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return lines[0], lines[2:]
