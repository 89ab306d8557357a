"""The `trainopt` command as a process: its output, its end by a signal, what isn't installed."""

from __future__ import annotations

import io
import sys

from trainopt.harness.terminal import sentences
from trainopt.stopping import stoppable


def main() -> None:
    """Run the command line; exit with code 2 and one sentence for what a user can put right."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # "?" where the terminal's encoding has no α
    with stoppable():
        with sentences():
            from trainopt.commands import app
        app(prog_name="trainopt")
