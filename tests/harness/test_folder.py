"""No command overwrites what another one, or the user, has put into a folder."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from trainopt.commands import app

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "mnist-softmax": ["compare", "wine-softmax", "--epochs", "1"],
    "deep": ["study", "deep", "--quick"],
    "cnn": ["compare", "cnn"],
    "convex": ["study", "convex", "--quick"],
    "theory": ["study", "theory", "--steps", "200", "--seeds", "2"],
    "memory": ["study", "memory", "--sizes", "10"],
    "speed": ["speed", "--repeats", "1"],
}
COMMITTED = ["mnist-softmax", "convex", "deep", "theory", "memory", "speed"]


def folders(at):
    """A folder of every command's committed results, and some of the user's own."""
    for name in COMMITTED:
        (at / name).mkdir(parents=True)
        shutil.copy(ROOT / "results" / name / "run.json", at / name)
    files = {
        "thesis": ("thesis.tex", "mine"),
        "damaged": ("run.json", '{"identity"'),
        "list": ("run.json", "[1]"),
        "odd": ("run.json", '{"identity": 3, "protocol": null, "sizes": [10.5]}'),
    }
    for name, (file, text) in files.items():
        (at / name).mkdir()
        (at / name / file).write_text(text)
    (at / "file").write_text("mine")


def contents(at):
    return {path: path.is_file() and path.read_bytes() for path in at.rglob("*")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_holds_something_else_is_refused(tmp_path, monkeypatch, name):
    """Its own kind too, which is of other data, steps, sizes or another protocol here."""
    monkeypatch.chdir(ROOT)
    folders(tmp_path)
    before = contents(tmp_path)
    own = {name} & {"speed"}  # the same device: measured anew
    for path in sorted(tmp_path.iterdir()):
        if path.name not in own:
            done = CliRunner().invoke(app, [*COMMANDS[name], "--out", str(path)])
            assert done.exit_code == 2, (path, done.output)
            assert len(done.output.strip().splitlines()) == 1, done.output
            assert str(path) in done.output
            assert "folder" in done.output
    assert contents(tmp_path) == before


def test_a_command_goes_on_in_a_folder_of_its_own(tmp_path):
    (tmp_path / ".run.json.123.tmp").write_text('{"si')  # of a process that was killed
    command = [*COMMANDS["memory"], "--out", str(tmp_path)]
    for _ in range(2):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "memory.csv").d) == {10}
    assert json.loads((tmp_path / "run.json").read_text())["sizes"] == [10]
    done = CliRunner().invoke(app, [*command, "--sizes", "20"])
    assert done.exit_code == 2
    assert "holds results with sizes [10], not [20]" in done.output


def test_theory_keeps_the_curves_of_other_steps(tmp_path):
    for file in (ROOT / "results" / "theory").glob("*.parquet"):
        shutil.copy(file, tmp_path)
    shutil.copy(ROOT / "results" / "theory" / "run.json", tmp_path)
    before = contents(tmp_path)
    done = CliRunner().invoke(app, [*COMMANDS["theory"], "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds results with steps 100000, not 200" in done.output
    assert contents(tmp_path) == before
