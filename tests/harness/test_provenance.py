"""What made a folder: the package's own commit, every command and version."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainopt
from trainopt.harness.folder import read_manifest, write_manifest, writing
from trainopt.harness.provenance import commands, cores, made_by, provenance

ROOT = Path(__file__).parents[2]
SHOW = "from trainopt.harness.provenance import provenance as p; print(p().get('commit'))"


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(folder):
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "all")
    return git(folder, "rev-parse", "HEAD")


def commit_seen(source, cwd, **env):
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(source), **env},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git isn't installed")
def test_the_commit_is_that_of_the_packages_own_clone(tmp_path):
    clone, other = tmp_path / "clone", tmp_path / "other"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "trainopt", clone / "src" / "trainopt", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", clone)
    (clone / ".gitignore").write_text("__pycache__\n")
    commit, others = repository(clone), repository(other)
    assert commit_seen(clone / "src", other, GIT_DIR=str(other / ".git")) == commit != others
    (clone / "results.csv").write_text("1")
    assert commit_seen(clone / "src", other) == commit
    (clone / "src" / "trainopt" / "more.py").write_text("")
    assert commit_seen(clone / "src", other) == f"{commit}+"
    # As a wheel lies in an environment inside somebody's repository.
    installed = other / "venv" / "site-packages"
    shutil.copytree(clone / "src" / "trainopt", installed / "trainopt", ignore=ignored)
    repository(other)
    assert commit_seen(installed, other) == "None"


def test_every_command_and_version_is_recorded_once(tmp_path, monkeypatch):
    def touch(*words):
        monkeypatch.setattr(sys, "argv", ["trainopt", *words])
        with writing(tmp_path, "study memory", {"sizes": [1]}) as kept:
            write_manifest(tmp_path, {"sizes": [1], **kept})

    touch("study", "memory", "--sizes", "1")
    touch("study", "memory", "--sizes", "1")
    touch("study", "memory", "--out", "a b")
    monkeypatch.setattr(trainopt, "__version__", "9.9.9")
    touch("study", "memory", "--out", "a b")
    manifest = read_manifest(tmp_path)
    made = manifest["made_by"]
    assert [m["versions"]["trainopt"] == "9.9.9" for m in made] == [False, False, True]
    expected = "trainopt study memory --sizes 1\ntrainopt study memory --out 'a b'"
    assert commands(manifest) == expected
    assert "trainopt 9.9.9" in made_by(manifest)
    assert made_by(manifest).count("numpy") == 2


@pytest.mark.parametrize("name", ["deep", "theory"])
def test_folders_of_older_versions_load(name):
    old = json.loads((ROOT / "results" / name / "run.json").read_text())
    manifest = read_manifest(ROOT / "results" / name)
    keys = {"commit", "command", "versions", "machine"} & old.keys()
    assert manifest["made_by"] == [{key: old[key] for key in keys}]
    assert {k: v for k, v in manifest.items() if k != "made_by"} == {
        k: v for k, v in old.items() if k not in keys
    }
    assert commands(manifest) == old["command"]
    changed = old.get("commit", "").endswith("+")
    assert ("changes that no commit has" in made_by(manifest)) == changed


def test_the_cores_are_those_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores() == provenance()["machine"]["cores"] == 1
