"""The whole job: fair, resumable, and nothing computed twice."""

import json
import math

import pandas as pd
import pytest

from trainopt.bench import InputError, comparison
from trainopt.bench import compare as compare_
from trainopt.bench import tune as tuning
from trainopt.bench.optimizers import OPTIMIZERS
from trainopt.bench.problems import build
from trainopt.bench.reference import optimum
from trainopt.bench.runner import train


def compare(out=None, optimizers="diagonal,adam,sgd", **changes):
    settings = {"epochs": 2, "seeds": 2, "tune": 3, "out": out, **changes}
    return compare_("wine-softmax", optimizers, **settings)


@pytest.fixture
def calls(monkeypatch):
    """Every training that is started, as (optimizer, seed)."""
    started = []

    def counting(problem, entry, settings, seed, *rest):
        started.append((entry.name, seed))
        return train(problem, entry, settings, seed, *rest)

    monkeypatch.setattr(comparison, "train", counting)
    monkeypatch.setattr(tuning, "train", counting)
    return started


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures, most of the time of a small comparison: other tests look at them."""
    monkeypatch.setattr("trainopt.bench.report.save_pngs", lambda *_: None)


def untimed(path):
    return pd.read_parquet(path / "runs.parquet").drop(columns="seconds")


def test_the_table_and_the_folder(tmp_path, calls):
    table = compare(tmp_path / "out")
    assert set(table.optimizer) == {"diagonal", "alpha0", "adam", "sgd"}
    assert (table.seeds == 2).all()
    for name in table.optimizer:
        assert [calls.count((name, seed)) for seed in tuning.SEEDS] == [
            3,
            3,
        ]  # the same budget for each
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "accuracy.png", "epochs.png", "estimator.png", "overview.png", "report.html", "run.json",
        "runs.parquet", "seconds.png", "tuning.db", "validation.png",
    }  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    for name, settings in manifest["tuned"].items():
        assert {json.loads(s) == settings for s in runs[runs.optimizer == name].settings} == {True}


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_computed_twice(tmp_path, calls):
    compare(tmp_path)
    first = untimed(tmp_path)
    calls.clear()
    compare(tmp_path)
    assert calls == []
    pd.testing.assert_frame_equal(untimed(tmp_path), first)
    compare(tmp_path, seeds=3)
    assert sorted(calls) == [(name, 2) for name in ("adam", "alpha0", "diagonal", "sgd")]
    calls.clear()
    compare(tmp_path, optimizers="momentum", seeds=1)
    assert set(calls) == {("momentum", seed) for seed in (*tuning.SEEDS, 0)}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("stop_at", [2, 8, 19])
def test_an_interrupted_comparison_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, stop_at):
    """The stop comes inside a run, in tuning and in final runs."""
    compare(tmp_path / "whole")
    started = []

    def stopping(problem, entry, settings, seed, epochs, best, on_epochs):
        started.append(entry.name)
        if len(started) == stop_at:
            raise KeyboardInterrupt
        return train(problem, entry, settings, seed, epochs, best, on_epochs)

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "train", stopping)
        patch.setattr(tuning, "train", stopping)
        with pytest.raises(KeyboardInterrupt):
            compare(tmp_path / "stopped")
    compare(tmp_path / "stopped")
    pd.testing.assert_frame_equal(untimed(tmp_path / "whole"), untimed(tmp_path / "stopped"))


def test_tuning_starts_from_the_given_settings_and_keeps_the_best(calls):
    problem, entry = build("wine-softmax"), OPTIMIZERS["diagonal"]
    storage = tuning.open_storage("sqlite:///:memory:")
    best = optimum(problem).value
    settings = tuning.tune(problem, entry, 6, 2, best, storage)
    (study,) = storage.get_all_studies()
    trials = storage.get_all_trials(study._study_id)
    assert trials[0].params == entry.start
    scores = [trial.value for trial in trials]
    assert trials[scores.index(min(scores))].params == settings
    ends = [train(problem, entry, settings, s, 2, best)[-1]["suboptimality"] for s in tuning.SEEDS]
    assert min(scores) == pytest.approx(math.log10(sum(ends) / 2))


def test_random_trials_try_the_same_learning_rates_for_every_optimizer():
    problem = build("wine-softmax")
    storage = tuning.open_storage("sqlite:///:memory:")
    for name in ("diagonal", "sgd", "adam"):
        tuning.tune(problem, OPTIMIZERS[name], 4, 1, 0.0, storage)
    tried = [
        [trial.params["lr"] for trial in storage.get_all_trials(study._study_id)[1:3]]
        for study in storage.get_all_studies()
    ]
    assert tried[0] == tried[1] == tried[2]


@pytest.mark.usefixtures("undrawn")
def test_two_searches_share_one_storage(tmp_path, calls):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one = compare(tmp_path / "a", storage=url)
    count = len(calls)
    two = compare(tmp_path / "b", storage=url)
    assert len(calls) - count == 4 * 2  # the final runs only
    assert one.train_loss.tolist() == two.train_loss.tolist()


@pytest.mark.usefixtures("undrawn")
def test_without_tuning_and_without_a_folder():
    table = compare(tune=0, seeds=1)
    assert {json.loads(s)["lr"] for s in table[table.optimizer == "sgd"].settings} == {0.1}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"tune": -1}, "tune is -1"),
        ({"optimizers": "nadam"}, "There is no optimizer nadam"),
        ({"storage": "nosuch://x"}, "storage nosuch://x can't be opened"),
    ],
)
def test_bad_requests_leave_nothing(tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        compare(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_results_of_another_comparison_are_not_touched(tmp_path):
    compare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds results with epochs 2, not 3"):
        compare(tmp_path, epochs=3)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds no results"):
        compare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_too_large_for_full_to_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("trainopt.optim.full.available_bytes", lambda device: 1000)
    with pytest.raises(InputError, match=r"full can't be built: A needs 7056 bytes"):
        compare(tmp_path / "out", optimizers="full")
    assert not (tmp_path / "out").exists()
