"""The command line: what it needs for its names, and what it refuses before it writes."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import trainopt
from trainopt.commands import app
from trainopt.convex.problems import MODELS
from trainopt.harness import names
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.palette import TITLES

HEAVY = [
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "optuna",
    "matplotlib",
    "plotly",
    "pyarrow",
    "statsmodels",
]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--version"], ["--help"], ["-h"], ["list"], ["compare", "--help"], ["study"]),
        *(["study", "convex", "-h"], ["study", "deep", "-h"], ["study", "theory", "-h"]),
        *(["study", "scientific", "-h"], ["study", "secant", "-h"]),
        *(["study", "memory", "-h"], ["bench"], ["bench", "step", "-h"], ["report", "-h"]),
        *(["advise", "-h"], ["study", "advice", "-h"], ["study", "spectrum", "-h"]),
    ],
    ids=" ".join,
)
def test_what_names_and_help_do_not_import(arguments):
    script = (
        f"import sys\nsys.argv[1:] = {arguments!r}\nfrom trainopt.cli import main\n"
        f"try: main()\nfinally: print('IMPORTED', *({HEAVY!r} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "IMPORTED", done.stderr
    assert done.returncode == (2 if arguments in (["study"], ["bench"]) else 0)
    assert done.stderr.count("Usage:") + done.stdout.count("Usage:") <= 1


def test_every_public_name_is_there_without_having_been_imported():
    script = (
        "import sys, trainopt\nassert 'torch' not in sys.modules\n"
        "for name in trainopt.__all__: assert getattr(trainopt, name).__name__ == name\n"
        "from trainopt import *\nassert DiagonalTO is trainopt.optim.DiagonalTO\n"
        "assert not hasattr(trainopt, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert set(trainopt.__all__) <= set(dir(trainopt))


def test_the_tables_of_names_are_those_of_what_runs():
    assert list(names.OPTIMIZERS) == list(OPTIMIZERS)
    for name, known in names.OPTIMIZERS.items():
        assert OPTIMIZERS[name].title == TITLES[name]
        assert set(OPTIMIZERS[name].space) == set(known.settings), name
    assert {model for _, model, _ in names.PROBLEMS.values()} <= set(MODELS)
    assert set(names.MODEL_TITLES) == set(MODELS)


def test_list_fits_into_80_columns():
    done = CliRunner().invoke(app, ["list"], env={"COLUMNS": "80"})
    assert max(map(len, done.stdout.splitlines())) <= 80
    for name in (*names.PROBLEMS, *names.OPTIMIZERS):
        assert f"│ {name} " in done.stdout  # in one piece
    assert "one block in each of three stages" in " ".join(
        line.split("│")[-2].strip() for line in done.stdout.splitlines() if line.startswith("│")
    )


REFUSED = {
    "compare wine-softmax --epochs 0": "--epochs",
    "compare wine-softmax --seeds 0": "--seeds",
    "compare wine-softmax --seeds 100000000000": "--seeds",
    "compare wine-softmax --tune -1": "--tune",
    "compare wine-softmax --batch-size 0": "--batch-size",
    "compare wine-softmax --batch-size 100000000": "has 143 training rows",
    "compare wine-softmax --l2 0": "l2 is 0: give a positive number",
    "compare wine-softmax --l2 1e308": "l2 is 1e+308: give a positive number of at most",
    "compare wine-softmax --l2 nan": "l2 is nan",
    "compare wine-softmax --size gpu": "no deep task: leave out --size",
    "compare wine-softmax --protocol mine.toml": "no deep task: leave out --protocol",
    "compare wine-softmax --optimizers muon": "The optimizer muon is for deep networks: choose",
    "compare wine-softmax --storage none": "The storage *** can't be opened",
    "compare cnn --optimizers ,": "No optimizer is named",
    "compare cnn --size bogus": "The size is bogus",
    "compare cnn --protocol none.toml": "There is no protocol none.toml",
    "study convex --workers 0": "--workers",
    "study convex --protocol binary.toml": "binary.toml isn't TOML",
    "study convex --protocol odd.toml": "odd.toml has tuning = 3 in its top level: give a table",
    "study convex --protocol .": ". can't be read or written: Is a directory",
    "study convex --quick --storage none": "The storage *** can't be opened",
    "study deep --workers 0": "--workers",
    "study deep --tasks ,": "No task is named",
    "study deep --protocol binary.toml": "binary.toml isn't TOML",
    "study deep --only-report": "holds nothing to report on",
    "study deep --quick --storage none": "The storage *** can't be opened",
    "study scientific --protocol odd.toml": "odd.toml has tuning in its top level",
    "study theory --steps 0": "--steps",
    "study theory --seeds 1": "--seeds",
    "study memory --sizes 0": "The sizes are 0",
    "study memory --sizes 99999999999999": "The sizes are 99999999999999",
    "speed --repeats 0": "--repeats",
    "speed --device foo": "The device foo can't be used",
    "speed --device meta": "The device meta can't be used",
}


@pytest.mark.parametrize(("command", "sentence"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_option_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, command, sentence
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "odd.toml").write_text("tuning = 3\nfinal = 4\ntests = 5\n")
    done = CliRunner().invoke(app, [*command.split(), "--out", "new"])
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert done.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} == {"binary.toml", "odd.toml"}


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("run.json", '{"a', "it has no run.json that can be read"),
        ("run.json", '{"identity": 3}', "but something else"),
        (
            "run.json",
            '{"command": "trainopt study convex"}',
            "finished: run `trainopt study convex` again",
        ),
        ("run.json", '{"functions": {}}', "curves.parquet"),
        ("run.json", "{}", "name another folder"),
        ("runs.parquet", "x", "remove it, and `trainopt compare`"),
        ("runs.parquet", None, "makes them"),
    ],
)
def test_a_damaged_folder_gets_advice(compared, tmp_path, file, content, sentence):
    for path in ("run.json", "runs.parquet"):
        (tmp_path / path).write_bytes((compared / path).read_bytes())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


SMALL = [
    "compare",
    "wine-softmax",
    "--optimizers",
    "sgd",
    "--epochs",
    "1",
    "--seeds",
    "2",
    "--tune",
    "1",
    "--out",
]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    done = CliRunner().invoke(app, [*SMALL, str(out)])
    assert done.exit_code == 0, done.output
    # What the report says first is in the terminal, too; and a line for each optimizer.
    assert "On wine-softmax, SGD ends lowest." in done.stdout.replace("\n", " ")
    assert [line.split()[-1] for line in done.stderr.splitlines()] == ["alpha0", "sgd"]
    return out


def test_the_advice_for_lost_runs_leads_to_the_same_runs(compared, tmp_path):
    (tmp_path / "run.json").write_bytes((compared / "run.json").read_bytes())
    done = CliRunner().invoke(app, [*SMALL, str(tmp_path)])
    assert done.exit_code == 0, done.output
    pages = [(folder / "run.json").read_text() for folder in (compared, tmp_path)]
    assert pages[0] == pages[1]
    assert not (tmp_path / "tuning.db").exists()  # nothing was searched again


def test_an_old_command_says_its_new_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["bench", "step", "--device", "foo"])
    assert done.exit_code == 2
    assert "`trainopt bench step` is now `trainopt speed`." in done.output
    assert "The device foo can't be used" in done.output
