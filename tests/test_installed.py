"""The package as it is installed: what its wheel and its source distribution hold."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(kind, folder):
    pytest.importorskip("hatchling", reason="hatchling isn't installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder of an unpacked wheel."""
    built = build("wheel", tmp_path_factory.mktemp("built"))
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder)
    return folder


def run(wheel, cwd, *arguments):
    """Run a command outside of the clone; the wheel comes before an editable install."""
    return subprocess.run(
        [sys.executable, "-m", "trainopt", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(wheel)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_work_outside_of_a_clone(wheel, tmp_path):
    listed = run(wheel, tmp_path, "list")
    assert "llama-lora" in listed.stdout
    small = ["--optimizers", "sgd", "--epochs", "1", "--seeds", "1", "--tune", "0"]
    compared = run(wheel, tmp_path, "compare", "wine-softmax", *small)
    assert compared.returncode == 0, compared.stderr
    drawn = run(wheel, tmp_path, "report", "runs/wine-softmax")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout == compared.stdout


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["compare", "cnn", "--optimizers", "adamm"], "did you mean adam"),
        (["study", "deep", "--tasks", "resnet18", "--size", "cpu"], "has no budget for the size"),
        (["study", "convex", "--quick", "--storage", "none"], "can't be opened"),
    ],
)
def test_committed_protocols_are_read_outside_of_a_clone(wheel, tmp_path, command, sentence):
    """Each of these sentences comes after the protocol was read."""
    done = run(wheel, tmp_path, *command)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_source_distribution_holds_what_its_tests_read(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        *("src/trainopt/protocols/convex.toml", "src/trainopt/protocols/deep.toml"),
        *("results/convex/run.json", "Makefile", "requirements-dev.txt", "tests/test_docs.py"),
    ):
        assert name in names
