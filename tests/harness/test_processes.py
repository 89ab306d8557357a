"""Worker processes: none is left when their parent is killed."""

import os
import subprocess
import sys
from pathlib import Path

PARENT = """
import os
from outliving import outlive
from trainopt.harness.processes import spread
list(spread(outlive, [os.getpid()], 1))
"""


def test_a_worker_ends_with_its_parent(start):
    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    parent = start(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout.readline() == "working\n"
    parent.kill()
    assert parent.stdout.read() == ""  # read until the worker has ended too
