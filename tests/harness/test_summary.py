"""The page of a study whose findings are a summary.md."""

import json

from trainopt.harness.summary import cells_of, draw_summary


def test_a_table_in_markdown_is_read_back():
    table = "| a | b |\n| --- | --- |\n| x, 1 | −2.0 |\n| y | – |"
    assert cells_of(table) == (["a", "b"], [["x, 1", "−2.0"], ["y", "–"]])


def test_the_page_says_what_the_summary_says(tmp_path, capsys):
    (tmp_path / "summary.md").write_text(
        "Zero is best.\n\n| start | cases |\n| --- | --- |\n| random | 27 |\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"made_by": []}))
    draw_summary(tmp_path, "Where A and b start")
    page = (tmp_path / "report.html").read_text()
    printed = capsys.readouterr().out
    for text in ("Zero is best.", "random", "27"):
        assert text in page
        assert text in printed
    assert "Where A and b start" in page
