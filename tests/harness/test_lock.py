"""Locks that die with their process, and what killed processes leave."""

import os
import signal
import subprocess
import sys

import optuna
import pytest

from trainopt.errors import InputError
from trainopt.harness.folder import claimed
from trainopt.harness.lock import JournalLock, locked
from trainopt.harness.storage import shared_storage

HOLDING = """
import sys
from pathlib import Path
from trainopt.harness.lock import JournalLock, locked
with locked(Path(sys.argv[1])):
    JournalLock(sys.argv[1] + "/trials.log").acquire()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_ends_with_its_process(tmp_path):
    (tmp_path / "trials.log").touch()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"is used by process {holder.pid}: wait until"):
            locked(tmp_path).__enter__()
        (tmp_path / f".report.html.{holder.pid}.tmp").write_text("half")
        (tmp_path / f".runs.parquet.{os.getpid()}.tmp").write_text("under way")
        holder.send_signal(signal.SIGKILL)
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path):
        kept = {path.name for path in tmp_path.iterdir()}
        assert f".report.html.{holder.pid}.tmp" not in kept
        assert f".runs.parquet.{os.getpid()}.tmp" in kept
    lock = JournalLock(str(tmp_path / "trials.log"))
    assert lock.acquire()
    lock.release()


def test_a_folder_with_nothing_but_a_lock_is_new(tmp_path):
    with locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert claimed(tmp_path, "compare", {"epochs": 1}) is None


def test_half_a_line_of_a_journal_is_cut_off(tmp_path):
    storage = shared_storage(None, tmp_path)
    study = optuna.create_study(storage=storage, study_name="x")
    log = tmp_path / "trials.log"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"op_code":' + b"1" * 100_000)
    again = optuna.load_study(study_name="x", storage=shared_storage(None, tmp_path))
    again.set_user_attr("final", 1)
    assert log.read_bytes().startswith(whole)
    assert optuna.load_study(study_name="x", storage=shared_storage(None, tmp_path)).user_attrs
    assert study.user_attrs == {"final": 1}
    log.write_bytes(b'{"op_code":')
    assert JournalLock(str(log)).acquire()
    assert log.read_bytes() == b""
