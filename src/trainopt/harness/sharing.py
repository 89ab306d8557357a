"""Machines that share a storage: which of them works on which study.

Results don't depend on it: trials are the same whoever makes them, see `trainopt.harness.search`.
It only keeps two machines from doing the same work.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainopt.harness.lock import alive

BEAT = 15.0
PATIENCE = 120.0
_WORKER, _BEAT = "worker", "beat"


@contextmanager
def reserved(
    storage: Any, name: str, wait: bool, beat: float = BEAT, patience: float = PATIENCE
) -> Iterator[bool]:
    """Reserve a study for this process, where no other living one has.

    A reservation is a running trial, which Optuna numbers in one write: the lowest number whose
    process lives has the study. A process lives while a number in the storage changes, which it
    writes every `beat` seconds, and on this machine while its process id does.

    Args:
        storage: an Optuna storage that several machines share.
        name: of the study; it is made where there is none.
        wait: until it is free. Otherwise yields False at once where it isn't.
        beat: seconds between two signs of life.
        patience: seconds without one after which a process counts as dead.
    """
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    seen: dict[int, tuple[Any, float]] = {}
    while (mine := _enter(study, seen, patience)) is None and wait:
        time.sleep(beat / 5)
    if mine is None:
        yield False
        return
    ended = threading.Event()
    thread = threading.Thread(target=_live, args=(storage, mine, ended, beat), daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # the storage may be what failed
            study.tell(mine.number, state=TrialState.FAIL)


def _enter(
    study: optuna.Study, seen: dict[int, tuple[Any, float]], patience: float
) -> FrozenTrial | None:
    """This process's reservation; None where a living process has one."""
    if _living(study, seen, patience):
        return None
    token = uuid.uuid4().hex
    worker = {"host": socket.gethostname(), "pid": os.getpid(), "token": token}
    study.add_trial(
        optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={_WORKER: worker})
    )
    first, *others = _living(study, seen, patience)
    if first.user_attrs[_WORKER]["token"] == token:
        return first
    for trial in others:
        if trial.user_attrs[_WORKER]["token"] == token:
            study.tell(trial.number, state=TrialState.FAIL)
    return None


def _living(
    study: optuna.Study, seen: dict[int, tuple[Any, float]], patience: float
) -> list[FrozenTrial]:
    """The reservations of living processes, lowest number first."""
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(_WORKER)
        if worker is None:
            continue
        beat, now = trial.user_attrs.get(_BEAT), time.monotonic()
        if trial.number not in seen or seen[trial.number][0] != beat:
            seen[trial.number] = beat, now
        silent = now - seen[trial.number][1] > patience
        gone = worker["host"] == socket.gethostname() and not alive(worker["pid"])
        if not (silent or gone):
            found.append(trial)
    return found


def _live(storage: Any, trial: FrozenTrial, ended: threading.Event, beat: float) -> None:
    count = 0
    while not ended.wait(beat):
        count += 1
        with suppress(Exception):  # a database that restarts: the next one may come through
            storage.set_trial_user_attr(trial._trial_id, _BEAT, count)
