"""The whole job: fair, resumable, and nothing computed twice."""

import json
import math
import os

import optuna
import pandas as pd
import pytest
import torch
from scipy import stats

from trainopt import compare as compare_
from trainopt.convex import comparison
from trainopt.convex.comparison import TUNING_SEEDS, Linear
from trainopt.convex.comparison_report import write_report
from trainopt.convex.optimum import optimum
from trainopt.convex.problems import build
from trainopt.convex.train import train
from trainopt.errors import InputError
from trainopt.harness import sharing
from trainopt.harness.folder import Folder
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.run import run_unit, tables_of
from trainopt.harness.world import Unit


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
    return started


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures, most of the time of a small comparison: other tests look at them."""
    monkeypatch.setattr("trainopt.convex.comparison_report.save_pngs", lambda *_: None)


def untimed(path):
    return pd.read_parquet(path / "runs.parquet").drop(columns="seconds")


def test_the_table_and_the_folder(tmp_path, calls):
    table = compare(tmp_path / "out")
    assert set(table.optimizer) == {"diagonal", "alpha0", "adam", "sgd"}
    assert (table.seeds == 2).all()
    for name in table.optimizer:
        assert [calls.count((name, seed)) for seed in TUNING_SEEDS] == [
            3,
            3,
        ]  # the same budget for each
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "accuracy.png", "epochs.png", "estimator.png", "overview.png", "report.html", "run.json",
        "runs.parquet", "seconds.png", "trials.log", "trials.log.lock",
        "trials.parquet", "validation.png", ".lock",
    }  # fmt: skip
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    best = trials.loc[trials.groupby("optimizer").score.idxmin()].set_index("optimizer").settings
    for name, settings in best.items():
        assert set(runs[runs.optimizer == name].settings.map(json.loads).map(str)) == {
            str(json.loads(settings))
        }


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_computed_twice(tmp_path, calls):
    compare(tmp_path)
    first = untimed(tmp_path)
    calls.clear()
    compare(tmp_path)
    assert calls == []
    pd.testing.assert_frame_equal(untimed(tmp_path), first)
    compare(tmp_path, seeds=3)
    names = ("adam", "alpha0", "diagonal", "diagonal-alpha0", "sgd")
    assert sorted(calls) == [(name, 2) for name in names]
    calls.clear()
    compare(tmp_path, optimizers="momentum", seeds=1)
    assert set(calls) == {("momentum", seed) for seed in (*TUNING_SEEDS, 0)}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("stop_at", [2, 8, 19])
def test_an_interrupted_comparison_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, stop_at):
    """The stop comes inside a run, in tuning and in final runs."""
    compare(tmp_path / "whole")
    started = []

    def stopping(problem, entry, *rest):
        started.append(entry.name)
        if len(started) == stop_at:
            raise KeyboardInterrupt
        return train(problem, entry, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "train", stopping)
        with pytest.raises(KeyboardInterrupt):
            compare(tmp_path / "stopped")
    compare(tmp_path / "stopped")
    pd.testing.assert_frame_equal(untimed(tmp_path / "whole"), untimed(tmp_path / "stopped"))


def searched(name, trials, epochs):
    """The trials of a comparison's search, and the settings of its final run."""
    problem, entry = build("wine-softmax"), OPTIMIZERS[name]
    world = Linear(problem, optimum(problem), (entry,), epochs, trials, 1)
    storage, unit = optuna.storages.InMemoryStorage(), Unit("wine-softmax", name)
    run_unit(world, unit, {}, storage)
    found, runs = tables_of(world, unit, storage)
    return [(json.loads(row["settings"]), row["score"]) for row in found], runs[-1]["settings"]


def test_tuning_starts_from_the_given_settings_and_keeps_the_best():
    found, text = searched("diagonal", 6, 2)
    problem, entry = build("wine-softmax"), OPTIMIZERS["diagonal"]
    assert found[0][0] == entry.start
    settings, score = min(found, key=lambda trial: trial[1])
    assert settings == json.loads(text)
    best = optimum(problem).value
    ends = [train(problem, entry, settings, s, 2, best)[-1]["suboptimality"] for s in TUNING_SEEDS]
    assert score == pytest.approx(math.log10(sum(ends) / 2))


def test_random_trials_try_the_same_rates_for_every_optimizer():
    names = ("diagonal", "full", "alpha0", "sgd", "adam")
    tried = [[trial for trial, _ in searched(name, 4, 1)[0][1:3]] for name in names]
    rates = [[(trial["lr"], trial["lr_schedule"]) for trial in trials] for trials in tried]
    assert rates == [rates[0]] * 5
    # With and without A: all but α.
    averages = [[(t["beta"], t["beta_schedule"]) for t in trials] for trials in tried[:3]]
    assert averages == [averages[0]] * 3


def test_what_learning_adds_is_measured_at_the_same_settings(tmp_path):
    """Against torch: with A removed and β constant, TO is SGD with momentum and dampening."""
    table = compare(tmp_path, optimizers="full,lagged", seeds=3, tune=0).set_index("optimizer")
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    ends = runs[runs.epoch == 2].pivot(index="seed", columns="optimizer", values="train_loss")
    start = OPTIMIZERS["full"].start
    for text in runs[runs.optimizer == "full-alpha0"].settings:
        assert json.loads(text) == {k: v for k, v in start.items() if k != "alpha"}
    problem = build("wine-softmax")
    for seed in range(3):
        w = problem.initial().requires_grad_()
        mu = 1 - start["beta"]
        sgd = torch.optim.SGD([w], lr=start["lr"], momentum=mu, dampening=mu)
        w.grad = torch.zeros_like(w)
        sgd.step()  # the buffer starts at 0, not at the first gradient
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2):
            for batch in problem.batches(generator):
                (w.grad,) = torch.autograd.grad(problem.loss(w, batch), w)
                sgd.step()
        assert ends["full-alpha0"][seed] == pytest.approx(problem.objective(w), rel=1e-5)
    differences = ends["full-alpha0"] - ends["full"]
    test = stats.ttest_rel(ends["full-alpha0"], ends["full"])
    row = table.loc["full"]
    assert row.added == pytest.approx(differences.mean(), rel=1e-6)
    assert [row.added_low, row.added_high] == pytest.approx(list(test.confidence_interval(0.95)))
    assert row.rho_added == pytest.approx(100 * row.added / ends["full-alpha0"].mean())
    assert not math.isnan(table.loc["lagged"].added)  # whatever has an α
    assert math.isnan(table.loc["alpha0"].added)


def test_results_without_some_runs_say_so_and_are_completed(tmp_path, calls):
    compare(tmp_path)
    runs = untimed(tmp_path)

    def lose_some():
        old = pd.read_parquet(tmp_path / "runs.parquet")
        old = old[old.optimizer != "diagonal-alpha0"].reset_index(drop=True)
        old.to_parquet(tmp_path / "runs.parquet", index=False)
        calls.clear()

    lose_some()
    write_report(Folder.load(tmp_path))
    assert "What learning A adds was not measured in these runs" in page_of(tmp_path)
    compare(tmp_path)
    assert calls == []  # they are in the journal
    assert "was not measured" not in page_of(tmp_path)
    pd.testing.assert_frame_equal(untimed(tmp_path), runs)

    lose_some()
    (tmp_path / "trials.log").unlink()
    compare(tmp_path)
    assert [name for name, seed in calls if seed < 2] == ["diagonal-alpha0"] * 2
    assert {name for name, seed in calls if seed >= 2} == {"diagonal"}  # its search alone
    pd.testing.assert_frame_equal(untimed(tmp_path), runs)

    # An older version kept what it found in run.json.
    manifest = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(manifest | {"tuned": {}}))
    compare(tmp_path)
    lose_some()
    with pytest.raises(InputError, match="was made by an older version"):
        compare(tmp_path)
    (tmp_path / "runs.parquet").write_text("x")
    with pytest.raises(InputError, match=r"runs.parquet is damaged \(.*\): remove it"):
        compare(tmp_path)
    assert calls == []


def page_of(folder):
    return (folder / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_machines_share_trials_and_final_runs(tmp_path, calls, monkeypatch):
    """The second starts while the first is at an optimizer, and ends with what one alone finds."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    alone = compare(tmp_path / "alone")
    count = len(calls)
    whole = calls.copy()
    calls.clear()
    here = comparison.train
    tables = []

    def second(*arguments):
        if not tables:
            tables.append(None)
            with pytest.raises(TimeoutError):  # it comes to wait for the optimizer of the first
                compare(tmp_path / "b", storage=url)
        return here(*arguments)

    def waiting(seconds):
        raise TimeoutError

    monkeypatch.setattr(comparison, "train", second)
    with monkeypatch.context() as patch:
        patch.setattr(sharing.time, "sleep", waiting)
        one = compare(tmp_path / "a", storage=url)
    two = compare(tmp_path / "b", storage=url)
    assert len(calls) == count
    assert sorted(calls) == sorted(whole)
    for table in (one, two):
        assert table.settings.tolist() == alone.settings.tolist()
        assert table.train_loss.tolist() == alone.train_loss.tolist()


@pytest.mark.usefixtures("undrawn")
def test_a_folder_in_use_is_refused_with_the_process(tmp_path, monkeypatch):
    """As it would be if another process came while this one trains."""
    refused = []

    def meanwhile(*arguments):
        with pytest.raises(InputError) as caught:
            compare(tmp_path, optimizers="momentum", tune=0)
        refused.append(str(caught.value))
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "train", meanwhile)
        compare(tmp_path, optimizers="sgd", seeds=1, tune=0)
    assert set(refused) == {
        f"{tmp_path} is used by process {os.getpid()}: wait until it ends, or give another folder "
        "with --out."
    }
    compare(tmp_path, optimizers="momentum", seeds=1, tune=0)
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    assert {"sgd", "momentum"} <= set(runs.optimizer)


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
    monkeypatch.setattr("trainopt.optim.checks.available_bytes", lambda device: 1000)
    with pytest.raises(InputError, match=r"full can't be built: A needs 7056 bytes") as caught:
        compare(tmp_path / "out", optimizers="full")
    assert str(caught.value).endswith("such as --optimizers secant,diagonal,rankone,adam,sgd.")
    assert "scope" not in str(caught.value)  # advice for those who call the library
    assert not (tmp_path / "out").exists()


def test_secant_to_takes_part_however_few_batches_a_pass_has(tmp_path):
    table = compare(optimizers="secant,adam", epochs=3, tune=0, batch_size=142)
    assert set(table.optimizer) == {"secant", "alpha0", "adam"}
    assert (table.diverged == 0).all()
