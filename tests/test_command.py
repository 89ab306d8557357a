"""What every command does with faults of its surroundings: encodings, and folders it can't have."""

import io
import os
import sys

import pytest

from trainopt.cli import main
from trainopt.convex import comparison


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["trainopt", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_output_without_greek_is_no_fault(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert run(monkeypatch, "list") == 0
    sys.stdout.flush()
    assert "mnist-softmax" in written.getvalue().decode(encoding)
    assert "TO, ? = 0" in written.getvalue().decode(encoding)


FOLDERS = {
    "below a file": ("file.txt/out", "file.txt/out can't be read or written: Not a directory"),
    "in a system": ("/proc/foo", "/proc/foo can't be read or written: No such file or directory"),
    "a long name": ("x" * 300, f"{'x' * 300} can't be read or written: File name too long"),
}


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="Linux's words")
@pytest.mark.parametrize(("out", "sentence"), FOLDERS.values(), ids=FOLDERS)
@pytest.mark.parametrize(
    "command",
    [
        ["compare", "wine-softmax", "--optimizers", "sgd", "--tune", "0", "--epochs", "1"],
        ["study", "memory", "--sizes", "10"],
        ["study", "theory", "--steps", "1000"],
        ["speed", "--repeats", "1"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_folder_that_cannot_be_had_is_one_sentence_before_the_work(
    monkeypatch, tmp_path, capsys, command, out, sentence
):
    def no_training(*args):
        raise AssertionError("trained all the same")

    monkeypatch.setattr(comparison, "train", no_training)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    assert run(monkeypatch, *command, "--out", out) == 2
    shown = capsys.readouterr()
    assert shown.err == f"trainopt: {sentence}.\n"
    assert shown.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
