"""`trainopt study scientific` in small: its runs, its resumption, its tables, and its page."""

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from trainopt import ChunkSampler, SecantTO
from trainopt.commands import app
from trainopt.errors import InputError
from trainopt.scientific import study
from trainopt.scientific.optimizers import OPTIMIZERS, Run
from trainopt.scientific.problem import Problem
from trainopt.scientific.problems import PROBLEMS
from trainopt.scientific.protocol import read_protocol
from trainopt.scientific.runner import train
from trainopt.scientific.tables import comparison, headline, summary, table_of_ends, value_at

ROOT = Path(__file__).parents[2]
TINY = """
passes = 6
chunks = 4
marks = 3
seeds = 2
tuning_seed = 10000
level = 0.05
[[problem]]
name = "poisson"
held_out = true
[optimizer.secant]
settings = [{ lr = 3e-3, first = 2, pairs = 10, scale = 0.5 }]
[optimizer.adam-lbfgs]
settings = [{ lr = 3e-3, first = 2 }]
[optimizer.adam]
settings = [{ lr = 1e-9 }, { lr = 1e-2 }]
[optimizer.adam-chunks]
like = "adam"
"""


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    path = tmp_path_factory.mktemp("protocol") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(protocol, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    arguments = ["study", "scientific", "--protocol", protocol, "--out", out]
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    assert done.exit_code == 0, done.output
    return out, done.output


def numbers(out):
    return pd.read_parquet(out / "runs.parquet").drop(columns="seconds")


def test_a_study_that_was_interrupted_ends_as_one_that_was_not(
    protocol, whole, tmp_path, monkeypatch
):
    done = []

    def killed(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(study, "train", killed)
    chosen = read_protocol(protocol)
    with pytest.raises(KeyboardInterrupt):
        study.run_scientific(chosen, tmp_path, show=False)
    assert numbers(tmp_path).groupby(study.KEY).ngroups == 3  # what was finished is kept
    monkeypatch.setattr(study, "train", train)
    study.run_scientific(chosen, tmp_path, show=False)
    pd.testing.assert_frame_equal(numbers(tmp_path), numbers(whole[0]))
    with pytest.raises(InputError, match="another protocol"):
        study.run_scientific(replace(chosen, digest="0" * 64), tmp_path, show=False)


def test_settings_are_chosen_by_the_tuning_seed(whole):
    runs = numbers(whole[0])
    for optimizer in ("adam", "adam-chunks"):
        mine = runs[(runs.optimizer == optimizer) & (runs.seed != 10000)]
        assert {json.loads(settings)["lr"] for settings in mine.settings} == {1e-2}
    assert set(runs[runs.seed == 10000].optimizer) == {"adam"}


def test_a_folder_has_tables_a_picture_and_says_what_the_command_says(whole):
    out, said = whole
    assert (out / "poisson.png").stat().st_size > 10_000
    assert summary(out) == (out / "summary.md").read_text()
    assert summary(out).strip() in said
    table = pd.read_csv(out / "comparison.csv")
    assert set(table.against) == {"adam-lbfgs", "adam", "adam-chunks"}
    assert len(table) == 3 * 4


# What the optimizers are -----------------------------------------------------------------------


def taken(name, passes, seed=0, **settings):
    problem = PROBLEMS["poisson"]()
    network = problem.network(seed)
    run = Run(problem, network, seed, passes, 4)
    steps = OPTIMIZERS[name](run, **settings)
    return np.array([(done, problem.loss(network).item()) for done in islice(steps, passes)])


@pytest.mark.parametrize(
    ("name", "fixed", "end"), [("adam", 1, 0.01), ("adam-chunks", 4, 0.01), ("adam-base", 4, 1.0)]
)
def test_adam_is_torchs_on_its_order_of_the_rows(name, fixed, end):
    problem = PROBLEMS["poisson"]()
    network = problem.network(0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    sampler = ChunkSampler(512, 128, fixed, seed=0)
    known = []
    for done in range(3):
        optimizer.param_groups[0]["lr"] = 1e-2 * end ** (done / 3)
        for rows in sampler:
            optimizer.zero_grad()
            problem.losses(network, problem.rows[rows]).mean().backward()
            optimizer.step()
        known.append((done + 1, problem.loss(network).item()))
    assert taken(name, 3, lr=1e-2) == pytest.approx(np.array(known))


def test_secant_is_secant_to_with_losses_after_adam():
    problem = PROBLEMS["poisson"]()
    network = problem.network(0)
    params = list(network.parameters())
    sampler = ChunkSampler(512, 128, 4, seed=0)
    base = torch.optim.Adam(params, 3e-3)
    optimizer = SecantTO(params, sampler, base=base, first=2, pairs=12, scale=0.5)
    known = []
    for done in range(5):
        for rows in sampler:
            optimizer.zero_grad()
            loss = problem.losses(network, problem.rows[rows]).mean()
            loss.backward()
            optimizer.step(loss=loss)
        known.append((done + 1, problem.loss(network).item()))
    assert taken("secant", 5, lr=3e-3, first=2, pairs=12, scale=0.5) == pytest.approx(
        np.array(known)
    )
    # Others share its base phase.
    for name in ("adam-lbfgs", "adam-bfgs", "adam-base"):
        settings = {"lr": 3e-3} if name == "adam-base" else {"lr": 3e-3, "first": 2}
        assert taken(name, 1, **settings) == pytest.approx(np.array(known[:1]))


@pytest.mark.parametrize("name", ["adam-lbfgs", "adam-bfgs"])
def test_an_evaluation_is_a_pass(name, monkeypatch):
    evaluated = []
    loss = Problem.loss
    monkeypatch.setattr(Problem, "loss", lambda self, w: evaluated.append(1) or loss(self, w))
    problem = PROBLEMS["poisson"]()
    run = Run(problem, problem.network(0), 0, 40, 4)
    steps = OPTIMIZERS[name](run, lr=3e-3, first=2)
    done = [next(steps) for _ in range(4)]
    assert done == sorted(done)
    assert done[-1] == 2 + len(evaluated)


def test_a_run_that_diverges_is_infinite_to_its_end():
    rows = train(PROBLEMS["poisson"](), "adam", {"lr": 1e200}, 0, 6, 4, 3)
    assert rows[0]["passes"] == 0
    assert np.isfinite(rows[0]["loss"])
    assert (rows[-1]["passes"], rows[-1]["loss"], rows[-1]["error"]) == (6, np.inf, np.inf)


# What the tables say -----------------------------------------------------------------------------


def run(optimizer, problem, seed, losses, seconds):
    """Marks at 0, 1, … passes; the error is the square root of the loss."""
    return [
        {"optimizer": optimizer, "problem": problem, "seed": seed, "settings": "{}"}
        | {"passes": i, "seconds": i * seconds, "loss": loss, "error": loss**0.5}
        for i, loss in enumerate(losses)
    ]


@pytest.fixture(scope="module")
def known(protocol):
    """SecantTO at 1e-4, 1e-5, 1e-6 after two passes of 2 s; ADAM at 1e-2 after two of 1 s."""
    rows = []
    for seed, power in enumerate((-4, -5, -6)):
        rows += run("secant", "poisson", seed, [1, 10 ** (power / 2), 10**power], 2.0)
        rows += run("adam", "poisson", seed, [1, 0.1, 0.01], 1.0)
    return replace(read_protocol(protocol), passes=2), pd.DataFrame(rows)


def test_a_value_is_interpolated_by_its_logarithm():
    found = pd.DataFrame({"passes": [0, 10, 20], "loss": [1.0, 1e-2, 1e-6]})
    assert value_at(found, "loss", "passes", 5) == pytest.approx(-1)
    assert value_at(found, "loss", "passes", 15) == pytest.approx(-4)
    found.loc[2, "loss"] = np.inf
    assert value_at(found, "loss", "passes", 20) == value_at(found, "loss", "passes", 15) == np.inf
    assert value_at(found, "loss", "passes", 10) == pytest.approx(-2)


def test_comparisons_are_paired_at_equal_passes_and_at_the_seconds_of_the_quicker(known):
    table = comparison(*known).set_index(["measure", "axis"])
    # Decades at the end: −2, −3, −4. At the 2 seconds that ADAM took, SecantTO has one pass: 10^-2,
    # 10^-2.5, 10^-3, which is 0, −0.5, −1 decades.
    for (measure, axis), pairs in {
        ("loss", "passes"): [-2, -3, -4],
        ("error", "passes"): [-1, -1.5, -2],
        ("loss", "seconds"): [0, -0.5, -1],
        ("error", "seconds"): [0, -0.25, -0.5],
    }.items():
        row = table.loc[measure, axis]
        wide = stats.t.ppf(0.975, 2) * np.std(pairs, ddof=1) / 3**0.5
        assert row.difference == pytest.approx(np.mean(pairs))
        assert (row.low, row.high) == pytest.approx((row.difference - wide, row.difference + wide))
        assert row.p == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue)
        assert row.verdict == ("win" if row.p < 0.05 else "tie")
    assert table.verdict["loss", "passes"] == "win"
    assert table.verdict["loss", "seconds"] == "tie"
    (sentence,) = headline(table.reset_index())
    assert sentence == (
        "- SecantTO against ADAM, wins / ties / losses: at equal passes 1 / 0 / 0 by loss and "
        "1 / 0 / 0 by error; at equal seconds 0 / 1 / 0 by loss and 0 / 1 / 0 by error."
    )


def test_the_ends_are_medians_and_worst_seeds(known):
    table = table_of_ends(*known).set_index("optimizer")
    assert table.loss["secant"] == pytest.approx(1e-5)
    assert table.worst_error["secant"] == pytest.approx(1e-2)
    assert table.seconds.to_dict() == {"secant": 4.0, "adam": 2.0}
    assert table.seeds.tolist() == [3, 3]


# The committed study -----------------------------------------------------------------------------


def test_the_page_says_what_the_results_say():
    folder = ROOT / "results" / "scientific"
    page = (ROOT / "docs" / "scientific.md").read_text()
    found = summary(folder)
    assert found == (folder / "summary.md").read_text()
    for line in found.splitlines():
        assert line in page
    assert json.loads((folder / "run.json").read_text())["protocol"] == read_protocol().digest
    table = pd.read_csv(folder / "ends.csv")
    assert set(table.problem) == set(read_protocol().problems)
    assert re.search(rf"\b{table.seeds.min()} seeds", page)


def test_a_protocol_with_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(TINY.replace("poisson", "poison"))
    sentence = "the scientific problem poison, which isn't known: did you mean poisson"
    with pytest.raises(InputError, match=sentence):
        read_protocol(path)
    path.write_text(TINY.replace('like = "adam"', 'like = "muon"'))
    with pytest.raises(InputError, match="takes its settings from muon"):
        read_protocol(path)
    path.write_text(TINY.replace("passes = 6", "passes = 0"))
    with pytest.raises(InputError, match="passes = 0"):
        read_protocol(path)
