"""Which of several machines has a study."""

import time

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from trainopt.harness import storage as opening
from trainopt.harness.sharing import reserved


@pytest.fixture
def storage(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/x.db")


def worker(storage, host, pid):
    study = optuna.create_study(storage=storage, study_name="x", load_if_exists=True)
    attrs = {"worker": {"host": host, "pid": pid, "token": host}}
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=attrs))
    return study


def test_one_has_it_until_it_ends(storage):
    with reserved(storage, "x", wait=False) as first:
        assert first
        with reserved(storage, "x", wait=False) as second:
            assert not second
        with reserved(storage, "y", wait=False) as other:
            assert other
    with reserved(storage, "x", wait=False) as third:
        assert third


def test_signs_of_life_are_waited_for(storage):
    study = worker(storage, "another-machine", 1)
    with reserved(storage, "x", wait=False, beat=0.01, patience=0.1) as ours:
        assert not ours
    with reserved(storage, "x", wait=True, beat=0.01, patience=0.1) as ours:
        assert ours  # there was none for so long
        mine = study.trials[-1].number
        for _ in range(3000):
            if beats := study.trials[mine].user_attrs.get("beat"):
                break
            time.sleep(0.01)
        assert beats
    assert study.trials[mine].state == TrialState.FAIL


def test_a_dead_process_of_this_machine_holds_nothing(storage, monkeypatch):
    worker(storage, "this-machine", 2**22 + 1)  # above the largest number of a process
    monkeypatch.setattr("socket.gethostname", lambda: "this-machine")
    with reserved(storage, "x", wait=False) as ours:
        assert ours


def test_of_two_at_the_same_moment_the_lower_number_has_it(storage, monkeypatch):
    study = worker(storage, "another-machine", 1)
    (other,) = study.trials
    looks = []
    get_trials = optuna.Study.get_trials

    def late(self, *arguments, **options):
        """The other's reservation is seen from the second look on."""
        looks.append(1)
        found = get_trials(self, *arguments, **options)
        return [t for t in found if len(looks) > 1 or t.number != other.number]

    monkeypatch.setattr(optuna.Study, "get_trials", late)
    with reserved(storage, "x", wait=False) as ours:
        assert not ours
    monkeypatch.undo()
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL]


@pytest.mark.parametrize(
    "said",
    [
        "UNIQUE constraint failed: alembic_version.version_num",
        'duplicate key value violates unique constraint "pg_type_typname_nsp_index"',
        'relation "studies" already exists',
        "database is locked",
    ],
)
def test_two_that_make_the_tables_at_once(monkeypatch, said):
    answers = iter([RuntimeError(said), "opened"])

    def get_storage(url):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(optuna.storages, "get_storage", get_storage)
    monkeypatch.setattr(opening.time, "sleep", lambda seconds: None)
    assert opening.open_storage("sqlite:///x.db") == "opened"
