"""A search that is killed at any moment, or made by several processes, is the uninterrupted one."""

import math
import os
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from sqlalchemy import event

from trainopt.convex import comparison
from trainopt.convex import world as convex
from trainopt.convex.comparison import Linear
from trainopt.convex.optimum import Optimum
from trainopt.convex.problems import build
from trainopt.convex.protocol import read_protocol
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.run import run_unit
from trainopt.harness.search import Search, best_of, finished, run_search
from trainopt.harness.storage import shared_storage
from trainopt.harness.world import Unit

ROOT = Path(__file__).parents[2]

SPACE = {
    "lr": FloatDistribution(1e-3, 10.0, log=True),
    "schedule": CategoricalDistribution(["constant", "1/t"]),
}
START = {"lr": 0.1, "schedule": "constant"}


def plan(trials=6, at_once=1):
    return Search(SPACE, START, trials, startup=2, seed=100, at_once=at_once)


def scores(batch):
    penalty = {"constant": 0.0, "1/t": 0.3}
    return [math.cos(2 * math.log(s["lr"])) + penalty[s["schedule"]] for s in batch]


def study_in(storage):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(storage=storage, study_name="x", load_if_exists=True)


def trials_of(study):
    return [(trial.params, trial.value) for trial in finished(study)]


@pytest.fixture(scope="module")
def uninterrupted():
    found = {}
    for at_once in (1, 3):
        study = study_in(optuna.storages.InMemoryStorage())
        run_search(study, plan(at_once=at_once), scores)
        found[at_once] = trials_of(study)
        assert len(found[at_once]) == 6
    return found


@pytest.mark.parametrize("at_once", [1, 3])
def test_against_optuna_itself(uninterrupted, at_once):
    """As one would write it with ask and tell: what the committed results were found with."""
    study = optuna.create_study()
    study.enqueue_trial(START)
    for first in range(0, 6, at_once):
        study.sampler = TPESampler(seed=100 + first, n_startup_trials=2)
        asked = [study.ask(fixed_distributions=SPACE) for _ in range(at_once)]
        for trial, value in zip(asked, scores([t.params for t in asked]), strict=True):
            study.tell(trial, value)
    assert [(t.params, t.value) for t in study.trials] == uninterrupted[at_once]
    assert study.best_params == best_of(study.trials, 6)


def killed_at(write, how, kind, folder):
    """Search in a child that is killed at its n-th write; whether it came that far."""
    child = os.fork()
    if child == 0:
        storage = opened(kind, folder)
        writes = count(1)

        def die(*arguments):
            if next(writes) == write:
                os.kill(os.getpid(), signal.SIGKILL)

        if kind == "sqlite":
            event.listen(storage.engine, "commit", die)
        else:
            append = storage._backend.append_logs

            def appended(logs):
                if how == "half" and next(writes) == write:
                    with (folder / "trials.log").open("ab") as file:
                        file.write(b'{"op_code":4,"worker_id":"half a li')
                    os.kill(os.getpid(), signal.SIGKILL)
                append(logs)
                if how == "after":
                    die()

            storage._backend.append_logs = appended
        run_search(study_in(storage), plan(at_once=3), scores)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def opened(kind, folder):
    if kind == "sqlite":
        return optuna.storages.RDBStorage(f"sqlite:///{folder}/trials.db")
    return shared_storage(None, folder)


def kill_everywhere(how, kind, at):
    """Print how many kills a search went through that ended like one without."""
    whole = study_in(optuna.storages.InMemoryStorage())
    run_search(whole, plan(at_once=3), scores)
    opened(kind, at)  # the tables of a database
    for write in count(1):
        folder = at / str(write)
        folder.mkdir()
        if kind == "sqlite":
            shutil.copy(at / "trials.db", folder)
        if not killed_at(write, how, kind, folder):
            break
        study = study_in(opened(kind, folder))
        run_search(study, plan(at_once=3), scores)
        assert trials_of(study) == trials_of(whole), write
        assert len(study.trials) == len(trials_of(whole)), write
    print(write - 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize(
    ("how", "kind"), [("after", "journal"), ("half", "journal"), ("after", "sqlite")]
)
def test_a_kill_between_any_two_writes_changes_nothing(tmp_path, how, kind):
    """In a process of its own, which has no threads when it forks."""
    script = (
        "import sys, pathlib, test_search\n"
        "test_search.kill_everywhere(*sys.argv[1:3], pathlib.Path(sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, how, kind, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7  # the study and six trials


def test_two_at_one_search_make_its_trials_once(uninterrupted):
    """Each of the other's trials comes while one computes it."""
    storage = optuna.storages.InMemoryStorage()

    def together(batch):
        if len(finished(study_in(storage))) < 3:
            run_search(study_in(storage), plan(trials=3, at_once=3), scores)
        return scores(batch)

    run_search(study_in(storage), plan(at_once=3), together)
    assert trials_of(study_in(storage)) == uninterrupted[3]


def test_trials_of_older_versions_count(uninterrupted):
    study = study_in(optuna.storages.InMemoryStorage())
    for params, value in uninterrupted[3][:2]:
        study.add_trial(optuna.trial.create_trial(params=params, distributions=SPACE, value=value))
    run_search(study, plan(at_once=3), scores)
    assert trials_of(study) == uninterrupted[3]


def stop_once(monkeypatch, method, call):
    """Let the n-th call of a method of Optuna's studies be Ctrl-C, before it does anything."""
    calls, original = count(1), getattr(optuna.Study, method)

    def stopping(*arguments, **options):
        if next(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(optuna.Study, method, stopping)


def test_a_unit_of_the_convex_study_that_stops_inside_a_batch(tmp_path, monkeypatch):
    def train_all(data, optimizer, settings, seeds, *rest, **options):
        ends = np.exp([2 * math.cos(3 * math.log(s["lr"])) for s in settings])
        shape = (len(settings), len(seeds), 2)
        curves = np.broadcast_to(ends[:, None, None], shape)
        return SimpleNamespace(passes=1, suboptimality=curves, estimator_error=curves)

    monkeypatch.setattr(convex, "train_all", train_all)
    world = convex.Convex(read_protocol())
    unit = Unit(world.problems[0], "diagonal")

    def trials(folder):
        folder.mkdir(exist_ok=True)
        storage = shared_storage(None, folder)
        run_unit(world, unit, {"best": 0.0}, storage)
        study = optuna.load_study(study_name=world.name(unit), storage=storage)
        return trials_of(study), study.user_attrs["final"]

    whole = trials(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_once(patch, "add_trial", 4)
        with pytest.raises(KeyboardInterrupt):
            trials(tmp_path / "stopped")
    assert trials(tmp_path / "stopped") == whole


def trained(problem, entry, settings, *rest):
    return [{"suboptimality": math.exp(math.cos(3 * math.log(settings["lr"])))}]


def searched(storage, trials, optimizer="alpha0"):
    """The search of a comparison of one problem: its trials, and the best settings."""
    problem, entry = build("wine-softmax"), OPTIMIZERS[optimizer]
    world = Linear(problem, Optimum(None, 0.0, 0.0, 0.0), (entry,), 1, trials, 1)
    unit = Unit(problem.name, optimizer)
    run_unit(world, unit, {}, storage)
    study = optuna.load_study(study_name=world.name(unit), storage=storage)
    return trials_of(study), best_of(finished(study), trials)


def test_a_comparison_that_stops_before_its_first_trial(monkeypatch):
    monkeypatch.setattr(comparison, "train", trained)
    whole = searched(optuna.storages.InMemoryStorage(), 6)
    stopped = optuna.storages.InMemoryStorage()
    with monkeypatch.context() as patch:
        stop_once(patch, "ask", 1)
        with pytest.raises(KeyboardInterrupt):
            searched(stopped, 6)
    assert searched(stopped, 6) == whole


def test_a_search_of_another_budget_is_another_search(monkeypatch):
    monkeypatch.setattr(comparison, "train", trained)
    both, alone = optuna.storages.InMemoryStorage(), optuna.storages.InMemoryStorage()
    few = searched(both, 4, "sgd")
    assert searched(both, 9, "sgd") == searched(alone, 9, "sgd")
    assert searched(both, 4, "sgd") == few
