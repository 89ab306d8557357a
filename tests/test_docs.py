"""The documents: their code runs, their numbers are those of the committed results."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from trainopt.convex.comparison_report import terminal_cells
from trainopt.convex.comparison_tables import final_table
from trainopt.convex.documents import ends_cells, page_cells
from trainopt.convex.protocol import read_protocol
from trainopt.convex.tables import RIVALS, Results, headline
from trainopt.harness.markdown import markdown
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import counted
from trainopt.harness.terminal import rich_table
from trainopt.memory import human_bytes
from trainopt.speed.report import cells as speed_cells

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
        console.print(rich_table(terminal_cells(table)))
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
    for case in pd.read_csv(folder / "problems.csv").itertuples():
        assert f"| {case.problem} | {case.model} | {case.l2:g} | {case.n} | {case.d} |" in page
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
    for row in pd.read_csv(ROOT / "results" / "speed" / "step.csv").itertuples():
        measured = f"{row.ms:.3g} | {row.gb_per_s:.3g} | {100 * row.of_limit:.0f} %"
        assert f"| {row.workload} | {row.contender} | {measured} |" in page


def test_the_stability_page_says_what_the_guard_costs():
    page = (ROOT / "docs" / "stability.md").read_text()
    columns, rows = speed_cells(pd.read_csv(ROOT / "results" / "speed" / "guard.csv"))
    heads = ["model", "optimizer", "gradient", "step, off", "step, on", "of the step", "of both"]
    assert len(columns) == len(heads)
    assert f"<!-- guard -->\n{markdown((heads, rows))}\n<!-- end -->" in page


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
    table = pd.read_csv(ROOT / "results" / "speed" / "step.csv").set_index("contender")
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


def between(page, name):
    """The lines of a page's table that is held to results."""
    return re.search(rf"<!-- table {name} -->\n(.*?)\n?<!-- end -->", page, re.DOTALL).group(1)


def test_when_to_use_what_says_what_the_results_say():
    """Every number of its tables; `convex_choices` and `deep_choices` write them."""
    page = (ROOT / "docs" / "when-to-use-what.md").read_text()
    assert between(page, "convex") == convex_choices()
    assert between(page, "deep") == deep_choices()


CHOICES = {
    "secant-8": "`SecantTO`, K = 8",
    "secant-4": "`SecantTO`, K = 4",
    "schedulefree-sgd": "Schedule-free SGD",
    "schedulefree-adamw": "Schedule-free AdamW",
    "adamw": "AdamW",
    "momentum": "SGD, momentum",
    "full": "`FullTO`",
    "diagonal": "`DiagonalTO`",
    "rankone": "`RankOneTO`",
    "lbfgs": "L-BFGS",
    "saga": "SAGA",
}


def convex_choices():
    """Medians by the number of passes, from results/secant, and SecantTO's counts."""
    secant, convex = ROOT / "results" / "secant", ROOT / "results" / "convex"
    passes = pd.read_csv(convex / "problems.csv").set_index("problem").passes
    ends = pd.read_csv(secant / "problems.csv")
    table = ends.assign(passes=ends.problem.map(passes)).pivot_table(
        values="median", index="optimizer", columns="passes", aggfunc="median"
    )
    counts = pd.read_csv(secant / "comparison.csv").set_index(["optimizer", "reference"])
    budgets = sorted(table.columns, reverse=True)
    heads = [f"{n} passes ({(passes == n).sum()} cases)" for n in budgets]
    heads[-1] = heads[-1].replace("cases", "case")
    lines = [f"| | {' | '.join(heads)} | against it |", "|---" * (len(budgets) + 2) + "|"]
    for name, title in CHOICES.items():
        cells = [f"{table.loc[name, n]:.1f}".replace("-", "−") for n in budgets]
        verdict = "–"
        if ("secant-8", name) in counts.index:
            row = counts.loc[("secant-8", name)]
            verdict = f"{row.win:.0f} / {row.tie:.0f} / {row.loss:.0f}"
        lines.append(f"| {title} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


def deep_choices():
    """Mean ranks, from results/deep/summary.md."""
    first = (ROOT / "results" / "deep" / "summary.md").read_text().split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()[2:]]
    chosen = ("Schedule-free AdamW", "AdamW", "Muon", "SGD, momentum", "Diagonal-TO", "RankOne-TO")
    return "\n".join(
        ["| | mean rank |", "|---|---|"]
        + [f"| {row[0]} | {row[-1]} |" for row in rows if row[0] in chosen]
    )


def test_the_settings_page_has_both_rates_on_deep_tasks():
    *_, table = (ROOT / "results" / "normalised-deep" / "summary.md").read_text().split("\n\n")
    page = (ROOT / "docs" / "settings.md").read_text()
    assert f"<!-- normalised, deep -->\n{table.strip()}\n<!-- end -->" in page


@pytest.mark.parametrize(
    ("page", "folder", "marks"),
    [
        ("settings.md", "sensitivity", ("defaults", "learning")),
        (
            "settings.md",
            "sensitivity-deep",
            ("deep defaults", "deep learning", "deep rates", "together"),
        ),
        ("settings.md", "normalised", ("normalised",)),
        ("settings.md", "init", ("starts",)),
        ("settings.md", "init-deep", ("deep starts",)),
        ("theory.md", "nonconvex", ("non-convex",)),
    ],
)
def test_the_pages_have_the_tables_of_their_studies(page, folder, marks):
    text = (ROOT / "docs" / page).read_text()
    verdict, *tables = (ROOT / "results" / folder / "summary.md").read_text().strip().split("\n\n")
    assert verdict in text
    for mark, table in zip(marks, tables, strict=True):
        assert f"<!-- {mark} -->\n{table}\n<!-- end -->" in text
