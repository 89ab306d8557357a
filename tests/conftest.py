"""One thread for each test, and processes that end with the test that started them."""

import gc
import os
import signal
import subprocess

import pytest
from ended import kill

# Before torch is imported, and for the processes that tests start: what is computed here is small,
# and a second thread would only wait, in a loop that takes a core from the other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# What a shell starts in the background ignores Ctrl-C, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leave what was imported out of garbage collections: torch alone has a million objects."""
    gc.collect()
    gc.freeze()


leaks = []


def pytest_warning_recorded(warning_message, nodeid):
    """A leak is seen when memory is collected, often in a later test, which is innocent."""
    if issubclass(warning_message.category, ResourceWarning):
        leaks.append(f"in or before {nodeid}: {warning_message.message}")


def pytest_sessionfinish(session):
    """It fails the session instead."""
    if leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    for leak in leaks:
        terminalreporter.write_line(f"LEAK {leak}", red=True)


@pytest.fixture
def start():
    """Start a command; what is left of it, with the processes it started, ends with the test."""
    started = []

    def run(command, **settings):
        process = subprocess.Popen(command, text=True, start_new_session=True, **settings)
        started.append(process)
        return process

    yield run
    for process in started:
        with process:  # closes its pipes, and waits
            kill(process)
