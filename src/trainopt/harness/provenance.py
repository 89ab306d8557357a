"""What made a folder of results: commands, commits, versions and machines."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trainopt
from trainopt.harness.secrets import command_shown

_VERSIONS = (
    "torch", "numpy", "scikit-learn", "scipy", "statsmodels", "optuna", "schedulefree",
)  # fmt: skip
# What decides a result, besides the protocol, whose digest every folder has.
_CODE = ("src", "pyproject.toml")
MADE_BY = "made_by"
_KEYS = ("commit", "command", "versions", "machine")


def provenance() -> dict[str, Any]:
    """A JSON-like description of this process and the code it runs, without passwords.

    Returns:
        command, versions and machine; and commit where the package is a clone, with a + where its
        code has changes that no commit has.
    """
    made: dict[str, Any] = {
        "command": shlex.join(command_shown(["trainopt", *sys.argv[1:]])),
        "versions": {"trainopt": trainopt.__version__}
        | {name: version(name) for name in _VERSIONS},
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": cores(),
        },
    }
    commit = _commit(Path(trainopt.__file__).resolve().parents[2])
    return made if commit is None else {"commit": commit, **made}


def with_maker(manifest: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """A manifest in which a maker stands besides those before it, unless it is one of them.

    Args:
        manifest: from `read_manifest`, or a new one.
        made: from `provenance`.
    """
    before = manifest.get(MADE_BY, [])
    return {**manifest, MADE_BY: before if made in before else [*before, made]}


def read_makers(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as older versions wrote it too, with a list of makers and no password."""
    manifest = dict(manifest)
    old = {key: manifest.pop(key) for key in _KEYS if key in manifest}
    makers = manifest.get(MADE_BY, [old] if old else [])
    if not isinstance(makers, list):
        makers = []
    manifest[MADE_BY] = [
        {**made, "command": _recorded(str(made.get("command", "")))}
        for made in makers
        if isinstance(made, dict)
    ]
    return manifest


def commands(manifest: dict[str, Any]) -> str:
    """The commands that made a folder, one a line, in their order."""
    return "\n".join(dict.fromkeys(made["command"] for made in manifest[MADE_BY]))


def made_by(manifest: dict[str, Any]) -> str:
    """Versions, machines and commits in words, for the foot of a page."""
    return " Then: ".join(dict.fromkeys(map(_in_words, manifest[MADE_BY])))


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_words(made: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in made.get("versions", {}).items())
    machine = made.get("machine", {})
    commit = made.get("commit")
    text = (
        f"{versions}; Python {machine.get('python')}, {machine.get('cores')} cores, "
        f"{machine.get('system')}"
    )
    if commit is None:
        return f"{text}."
    changed = " with changes that no commit has" if commit.endswith("+") else ""
    return f"{text}; commit {commit.removesuffix('+')}{changed}."


def _recorded(command: str) -> str:
    """A command as run.json holds it, without the passwords that older ones were recorded with."""
    try:
        words = shlex.split(command)
    except ValueError:  # recorded without quotes
        words = command.split()
    hidden = command_shown(words)
    return command if hidden == words else shlex.join(hidden)


def _commit(root: Path) -> str | None:
    """The commit of the clone at `root`; None where there is none, as for an installed wheel."""
    try:
        if 'name = "trainopt"' not in (root / "pyproject.toml").read_text(encoding="utf-8"):
            return None
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return None  # a copy inside another repository
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", *_CODE)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + "+" * bool(changed)


def _git(root: Path, *words: str) -> str:
    # A hook's GIT_DIR would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    found = subprocess.run(
        ["git", *words], cwd=root, env=env, check=True, capture_output=True, text=True
    )
    return found.stdout.strip()
