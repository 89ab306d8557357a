"""`trainopt advise` on problems of the list, and on a file."""

import numpy as np
import pytest
from typer.testing import CliRunner

from trainopt.commands import app


def run(*words):
    return CliRunner().invoke(app, ["advise", *map(str, words)])


def test_a_built_in_problem(tmp_path):
    done = run("wine-softmax", "--passes", 30, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("Take SecantTO, K = 8 for wine-softmax: ")
    assert "newton-cholesky" in done.output  # 42 weights need no training loop
    assert (tmp_path / "new" / "advice.txt").read_text().split() == done.output.split()


def test_passes_and_exclusions_change_the_advice():
    assert "Take Schedule-free" in run("wine-softmax", "--passes", 2).output
    done = run("wine-softmax", "--passes", 30, "--exclude", "secant, secant-small")
    assert done.output.startswith("Take L-BFGS")


def test_a_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    lines = [f"{a},{b},{c},{int(a + b > 0)}" for a, b, c in x]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["a,b,c,t", *lines]))
    done = run("logistic", "--data", path, "--target", "t")
    assert done.exit_code == 0, done.output
    assert "4; the model is linear" in done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["wine-softma"], "did you mean wine-softmax"),
        (["resnet18"], "no CPU size"),
        (["cnn", "--batch-size", 4], "leave out"),
        (["wine-softmax", "--exclude", "secan"], "did you mean secant"),
        (["wine-softmax", "--budget", 10], "--budget"),
        (["wine-softmax", "--passes", 0], "--passes"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(words, sentence):
    done = run(*words)
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split()) + " ".join(done.stderr.split())
