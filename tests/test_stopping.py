"""Signals: the first ends a command in order, the second at once, without a traceback."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from trainopt.stopping import stoppable

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
STOPPED = "Stopped. What is finished is kept in here; the same command goes on from there.\n"

SPREAD = """
import os, pathlib, time
from trainopt.stopping import resumable, stoppable
from trainopt.harness.processes import spread

def for_ever(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)

if __name__ == "__main__":
    with stoppable(), resumable("here"):
        for _ in spread(for_ever, ["worker-1", "worker-2", "worker-3"], 2):
            pass
"""

DEAF = """
import pathlib, time
from trainopt import stopping

stopping.PATIENCE = {patience}
with stopping.stoppable():
    pathlib.Path("ready").touch()
    while True:
        try:
            time.sleep(0.05)
        except BaseException:  # as a destructor, or a library, may do
            pathlib.Path("heard").touch()
"""

IN_AN_IMPORT = """
import os, signal, sys

class Signalled:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            os.kill(os.getpid(), signal.{name})
            {then}

sys.meta_path.insert(0, Signalled())
sys.argv[1:] = ["compare", "wine-softmax"]
from trainopt.cli import main
main()
"""

CHILDREN = """
import signal, subprocess, sys
from trainopt.stopping import stoppable

signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch's DataLoader does
with stoppable():
    for _ in range(3):
        subprocess.run([sys.executable, "-c", ""], check=True)
"""


@pytest.fixture
def start(tmp_path):
    """Start a script in a session of its own, which ends with the test."""
    started = []

    def run(script, at_first="default_int_handler", stderr=subprocess.PIPE):
        file = tmp_path / "script.py"
        # As in a terminal, whatever the tests were started by.
        file.write_text(f"import signal\nsignal.signal(signal.SIGINT, signal.{at_first})\n{script}")
        process = subprocess.Popen(
            [sys.executable, str(file)],
            stderr=stderr,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
        )
        started.append(process)
        return process

    try:
        yield run
    finally:
        for process in started:
            with process:  # closes its pipe, and waits
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def wait_for(process, *paths):
    while not all(path.exists() and (path.name == "ready" or path.read_text()) for path in paths):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the command", "its group"])
@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_a_signal_ends_the_command_and_its_processes(start, tmp_path, number, code, send):
    process = start(SPREAD)
    files = [tmp_path / "worker-1", tmp_path / "worker-2"]
    wait_for(process, *files)
    workers = [int(file.read_text()) for file in files]
    send(process.pid, number)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (code, STOPPED)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert not (tmp_path / "worker-3").exists()


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_the_second_signal_ends_it_at_once(start, tmp_path, number, code):
    process = start(DEAF.format(patience=1e6))
    wait_for(process, tmp_path / "ready")
    process.send_signal(number)
    while not (tmp_path / "heard").exists():
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (code, "")


def test_a_signal_that_is_lost_ends_it_all_the_same(start, tmp_path):
    process = start(DEAF.format(patience=0.1))
    wait_for(process, tmp_path / "ready")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (143, "")


def test_a_terminal_has_its_cursor_back(start, tmp_path):
    ours, its = pty.openpty()
    try:
        process = start(DEAF.format(patience=0.1), stderr=its)
        wait_for(process, tmp_path / "ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        assert os.read(ours, 100) == b"\x1b[?25h"
    finally:
        os.close(ours)
        os.close(its)


@pytest.mark.parametrize("then", ["pass", "raise ImportError('half of it')"])
@pytest.mark.parametrize("number", CODES)
def test_a_signal_during_imports_ends_it_without_a_traceback(start, tmp_path, number, then):
    process = start(IN_AN_IMPORT.format(name=number.name, then=then))
    _, errors = process.communicate()
    assert process.returncode == CODES[number]
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_a_signal_that_was_ignored_stays_so(start, tmp_path):
    """As under nohup, and for what a script starts with &."""
    process = start(DEAF.format(patience=0.1), "SIG_IGN")
    wait_for(process, tmp_path / "ready")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (143, "")


def test_handlers_are_those_of_before_once_it_is_over():
    before = [signal.getsignal(number) for number in CODES]
    with stoppable():
        assert [signal.getsignal(number) for number in CODES] != before
    assert [signal.getsignal(number) for number in CODES] == before
    with pytest.raises(KeyError, match="x"), stoppable():
        raise KeyError("x")
    assert [signal.getsignal(number) for number in CODES] == before


def test_signals_of_children_that_end_are_not_ours(start):
    process = start(CHILDREN)
    assert process.communicate()[1] == ""
    assert process.returncode == 0
