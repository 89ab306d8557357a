"""The documents: their code runs, their numbers are those of the committed results."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from trainopt.bench.markdown import markdown
from trainopt.bench.report import text_table
from trainopt.bench.stats import final_table
from trainopt.memory import human_bytes
from trainopt.study.convex_cells import ends_cells, page_cells
from trainopt.study.names import TITLES
from trainopt.study.protocol import read_protocol
from trainopt.study.significance import counted
from trainopt.study.tables import RIVALS, Results, headline

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("code", CODE)
def test_the_code_in_the_documents_runs(code):
    exec(code, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("name", ["mnist-softmax", "digits-softmax"])
def test_tables_in_the_readme_are_those_of_the_results(name):
    table = final_table(pd.read_parquet(ROOT / "results" / name / "runs.parquet"))
    console = Console(width=200)
    with console.capture() as captured:
        console.print(text_table(table))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert "\n".join(lines) in (ROOT / "README.md").read_text()


def test_the_convex_page_says_what_the_results_say():
    page = (ROOT / "docs" / "convex.md").read_text()
    folder = ROOT / "results" / "convex"
    # The sentences count verdicts, which come from tests: of the intervals any do.
    results = Results.load(folder, replace(read_protocol(), resamples=2))
    for sentence in headline(results):
        assert f"- {sentence}\n" in page
        assert sentence.split(": ", 1)[1] in (folder / "report.html").read_text()
    table, _ = (folder / "summary.md").read_text().split("\n\n")
    assert table == markdown(page_cells(pd.read_csv(folder / "summary.csv")))
    assert f"<!-- all cases -->\n{table}\n<!-- end -->" in page
    for case in pd.read_csv(folder / "cases.csv").itertuples():
        assert f"| {case.case} | {case.model} | {case.l2:g} | {case.n} | {case.d} |" in page
        assert f"| {case.condition:.0f} | {case.source} | {case.licence} |" in page


def test_the_verdicts_on_the_page_are_those_of_the_comparison():
    folder = ROOT / "results" / "convex"
    page = (ROOT / "docs" / "convex.md").read_text()
    comparison = pd.read_csv(folder / "comparison.csv").query("reference == 'adam'")
    for name, rows in comparison.groupby("optimizer"):
        counts = " / ".join(str((rows.verdict == kind).sum()) for kind in ("win", "tie", "loss"))
        decades = f"{rows.difference.median():+.2f}".replace("-", "−")
        assert f"| {TITLES[name]} | {counts} | {decades} |" in page


def test_the_page_says_what_was_found_on_new_data():
    folder = ROOT / "results" / "convex-new"
    page = (ROOT / "docs" / "secant.md").read_text()
    path = files("trainopt") / "protocols" / "convex-new.toml"
    results = Results.load(folder, replace(read_protocol(path), resamples=2))
    table = markdown(ends_cells(results))
    assert (folder / "summary.md").read_text().split("\n\n")[1] == f"{table}\n"
    assert f"<!-- new data -->\n{table}\n<!-- end -->" in page
    first, _ = headline(results)
    assert first in (folder / "report.html").read_text()
    counts = {name: counted(results.against(name)).loc["secant"] for name in RIVALS}
    assert f"wins {counts['adam'].win:.0f} of {len(results.cases)} cases against tuned ADAM" in page
    others = {counts[name].win for name in RIVALS[1:]}
    assert others == {int(re.search(r"ADAM and (\d+) against each schedule-free", page).group(1))}
    assert not sum(count.loss for count in counts.values())  # "loses none"


def test_the_speed_page_says_what_was_measured():
    page = (ROOT / "docs" / "speed.md").read_text()
    for row in pd.read_csv(ROOT / "results" / "step" / "step.csv").itertuples():
        measured = f"{row.ms:.3g} | {row.gb_per_s:.3g} | {100 * row.of_limit:.0f} %"
        assert f"| {row.workload} | {row.contender} | {measured} |" in page


def test_the_theory_page_says_what_was_measured():
    page = (ROOT / "docs" / "theory.md").read_text()
    slopes = pd.read_csv(ROOT / "results" / "theory" / "slopes.csv")
    for (function, optimizer), rows in slopes.groupby(["function", "optimizer"]):
        cells = [
            f"{row.slope:.2f} [{row.low:.2f}, {row.high:.2f}]"
            for name in ("distance", "estimator_error")
            for row in rows[rows.quantity == name].itertuples()
        ]
        assert f"| {function} | {TITLES[optimizer]} | {cells[0]} | {cells[1]} |" in page
    learning = slopes[slopes.optimizer.isin(["full", "diagonal", "rankone"])]
    assert (learning.low <= -1).all()
    assert (learning.high >= -1).all()
    table = pd.read_csv(ROOT / "results" / "memory" / "memory.csv")
    for row in table[table.d == 10_010].itertuples():
        if row.optimizer != "sgd":
            assert f"{TITLES[row.optimizer]} {human_bytes(int(row.state_formula))}" in page
        assert row.memory in (row.state, pytest.approx(float("nan"), nan_ok=True))


def test_the_readme_repeats_the_pages():
    readme = (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "convex.md").read_text()
    verdicts = re.findall(r"^\| .* \d+ / \d+ / \d+ \|.*$", readme, re.MULTILINE)
    assert len(verdicts) > 5
    for line in verdicts:
        assert line in page
    table = pd.read_csv(ROOT / "results" / "step" / "step.csv").set_index("contender")
    for name in ("AdamW, fused", "Diagonal-TO, fused", "RankOne-TO, fused"):
        (cells,) = re.findall(rf"^\| {name} \|(.*)\|$", readme, re.MULTILINE)
        measured = [f"{ms:.3g}" for ms in table.loc[name].ms]
        assert [cell.strip() for cell in cells.split("|")] == measured[:5]


def test_memory_in_the_documents():
    d = 10_010
    sizes = [human_bytes(4 * count) for count in (d * d + d, 2 * d, 3 * d)]
    for page in (ROOT / "README.md", ROOT / "docs" / "guide.md"):
        for size in sizes:
            assert f"| {size} |" in page.read_text()
