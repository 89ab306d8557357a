"""What made a folder of results: command, commit, versions and machine."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from trainopt.bench.secrets import command_shown

_VERSIONS = (
    "trainopt", "torch", "numpy", "scikit-learn", "scipy", "statsmodels", "optuna", "schedulefree",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """A JSON-like description of this process and the code it runs, without passwords."""
    return {
        "commit": _commit(),
        "command": shlex.join(command_shown(["trainopt", *sys.argv[1:]])),
        "versions": {name: version(name) for name in _VERSIONS},
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
        },
    }


def recorded(command: str) -> str:
    """A command as run.json holds it, without the passwords that older ones were recorded with."""
    try:
        words = shlex.split(command)
    except ValueError:  # recorded without quotes
        words = command.split()
    hidden = command_shown(words)
    return command if hidden == words else shlex.join(hidden)


def made_by(manifest: dict[str, Any]) -> str:
    """The same in words, for the foot of a page."""
    versions = ", ".join(f"{name} {value}" for name, value in manifest["versions"].items())
    machine = manifest["machine"]
    commit = f"; commit {manifest['commit']}" if "commit" in manifest else ""
    return (
        f"{versions}; Python {machine['python']}, {machine['cores']} cores, {machine['system']}"
        f"{commit}."
    )


def _commit() -> str:
    """The commit of the clone this runs in, with a + where files differ from it."""
    described = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        found = subprocess.run(described, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "not in a clone"
    return found.stdout.strip()
