"""The numbers in docs/deep.md are those of the committed results."""

from pathlib import Path

import pytest

from trainopt.deep.problem_tables import summary
from trainopt.deep.protocol import read_protocol
from trainopt.deep.tables import Results

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed():
    return Results.load(ROOT / "results" / "deep", read_protocol())


def test_tables_in_the_document_are_those_of_the_results(committed):
    tables = summary(committed)
    assert (ROOT / "results" / "deep" / "summary.md").read_text() == tables
    page = (ROOT / "docs" / "deep.md").read_text()
    for table in tables.split("\n\n"):
        assert table.strip() in page


def test_the_documents_list_of_tasks_is_what_was_run(committed):
    page = (ROOT / "docs" / "deep.md").read_text()
    for budget in committed.protocol.budgets:
        line = next(
            line for line in page.splitlines() if line.startswith(f"| `{budget.problem}` |")
        )
        trained = committed.manifest["problems"][budget.problem]["trained"]
        assert f"| {trained:,} |".replace(",", " ") in line
        assert f"| {budget.plan.steps} × {budget.plan.batch} " in line
