"""A page says what it is given, as text, and holds its pictures."""

import base64
import json
import re

from trainopt.harness.page import Report, Section, html_table, page
from trainopt.harness.palette import MOST, PALETTE
from trainopt.harness.terminal import columns_within

CELLS = (["name", "a<b", "note"], [["<x>", "1", "y" * 61], ["z", "2", "short"]])


def report(**parts):
    section = Section("Heading", ("A note & more.",), **parts)
    return Report("Title", "Facts.", ["Found <this>."], [section], {"made_by": []})


def test_a_table_names_its_columns_and_rows():
    table = html_table('A "caption"', CELLS)
    assert '<th scope="col">a&lt;b</th>' in table
    assert '<th scope="row">&lt;x&gt;</th><td>1</td><td class=text>' in table
    assert "<caption>A &quot;caption&quot;</caption>" in table
    assert 'aria-label="A &quot;caption&quot;" tabindex="0"' in table


def test_the_verdict_comes_first_and_pictures_are_inside(tmp_path):
    (tmp_path / "p.png").write_bytes(b"png")
    made = page(report(tables={"T": CELLS}, figures={"p.png": "What it shows: more"}), tmp_path)
    order = [made.index(text) for text in ("<p>Found &lt;this&gt;.", "Facts.", "<table>", "<img")]
    assert order == sorted(order)
    picture = base64.b64encode(b"png").decode()
    assert f'<img src="data:image/png;base64,{picture}" alt="Chart: What it shows">' in made
    assert "<script" not in made


def test_curves_have_boxes_and_only_the_first_are_shown(tmp_path):
    names = list(PALETTE)[:12]
    lines = {name: {"x": [0, 1], "y": [1.0, i]} for i, name in enumerate(names)}
    chart = {"title": "C", "x": {"title": "x", "log": False}, "y": {"title": "y", "log": True}}
    groups = {"one": [{**chart, "lines": lines}], "t</script>wo": [{**chart, "lines": lines}]}
    made = page(report(curves=groups), tmp_path)
    boxes = re.findall(r'<input type="checkbox" value="([^"]+)"( checked)?>', made)
    assert [name for name, _ in boxes] == names
    assert sum(bool(checked) for _, checked in boxes) == MOST
    data = re.search(r"<script type='application/json' id='curves'>(.*?)</script>", made)
    assert json.loads(data[1])["groups"] == groups
    assert made.count("<option>") == 2


def test_a_narrow_terminal_gets_some_columns_at_a_time():
    wide = (["a", "bbbb", "cccc", "dddd"], [["1", "2", "3", "4"]])
    assert columns_within(wide, 100) == [wide]
    parts = columns_within(wide, 15)
    assert parts == [
        (["a", "bbbb", "cccc"], [["1", "2", "3"]]),
        (["a", "dddd"], [["1", "4"]]),
    ]
    assert columns_within(wide, 1) == [
        (["a", name], [["1", cell]]) for name, cell in zip(wide[0][1:], wide[1][0][1:], strict=True)
    ]
