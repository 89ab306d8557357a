"""The command as a user runs it; in a process of its own where the process matters."""

import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

import trainopt
from trainopt.commands import app

QUICK = ["--optimizers", "diagonal,adam", "--epochs", "2", "--seeds", "2", "--tune", "2"]


def command(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_compare_list_report_and_version(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command("compare", "wine-softmax", *QUICK)
    assert done.exit_code == 0, done.stderr
    out = tmp_path / "runs" / "wine-softmax"
    for word in ("Diagonal-TO", "ADAM", "TO, α = 0", "ρ vs ADAM", "Report: runs/wine-softmax"):
        assert word in done.stdout
    assert len(pd.read_parquet(out / "runs.parquet")) == 4 * 2 * 3  # with A removed, too
    (out / "report.html").unlink()
    again = command("report", out)
    assert again.exit_code == 0
    assert (out / "report.html").exists()
    assert again.stdout.splitlines()[:4] == done.stdout.splitlines()[:4]
    listed = command("list").stdout
    for name in ("mnist-softmax", "ridge", "schedulefree-adamw"):
        assert name in listed
    assert command("--version").stdout.strip() == trainopt.__version__


def test_a_file_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(
        "a,b,y\n" + "\n".join(f"{i},{i * i % 7},{['yes', 'no'][i % 2]}" for i in range(60))
    )
    done = command("compare", "logistic", "--data", "mine.csv", "--target", "y", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "runs" / "mine-logistic" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "mnist"], "There is no problem mnist"),
        (["compare", "wine-softmax", "--optimizers", "adamm"], "did you mean adam"),
        (["compare", "ridge", "--data", "none.csv", "--target", "y"], "There is no file none.csv"),
        (["compare", "wine-softmax", "--out", "folder/file.txt"], "is a file"),
        (["report", "nowhere"], "There is no folder nowhere"),
        (["report", "folder"], "holds no results"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.txt").write_text("mine")
    done = command(*arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.txt", "folder"]


def test_a_process_says_it_in_one_sentence_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trainopt", "report", "nowhere"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("trainopt: There is no folder nowhere")
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_stops_cleanly_and_the_same_command_resumes(tmp_path, start):
    arguments = ["compare", "wine-softmax", "--optimizers", "adam,sgd", "--out", tmp_path / "out"]
    arguments += ["--epochs", "5", "--tune", "2", "--seeds"]
    # More seeds than it can run before the signal comes, however busy the machine is.
    process = start(
        [sys.executable, "-m", "trainopt", *map(str, arguments), "10000"], stderr=subprocess.PIPE
    )
    log = tmp_path / "out" / "trials.log"
    while not (log.exists() and '"run-1"' in log.read_text()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "the same command goes on from there" in stderr
    assert "Traceback" not in stderr
    kept = log.read_text()
    assert command(*arguments, 3).exit_code == 0
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert len(runs) == 6 * 3 * 3
    made = log.read_text()
    assert made.startswith(kept)
    assert made.count('"run-0"') == made.count('"run-1"') == 3  # one for each optimizer


WITHOUT_EXTRAS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pandas", "optuna", "sklearn", "rich", "typer", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_the_library_needs_only_torch_and_says_what_the_rest_needs():
    script = (
        WITHOUT_EXTRAS + "import trainopt; print(trainopt.DiagonalTO)\nfrom trainopt import compare"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "DiagonalTO" in done.stdout
    assert "pip install 'trainopt[bench]'" in done.stderr
    script = WITHOUT_EXTRAS + "import trainopt.cli; trainopt.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install 'trainopt[bench]'" in done.stderr
