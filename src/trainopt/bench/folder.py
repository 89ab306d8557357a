"""The results folder: `run.json` says what is in it, `runs.parquet` holds the table."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.bench.errors import InputError
from trainopt.bench.optimizers import Settings
from trainopt.bench.runner import Row

_VERSIONS = ("trainopt", "torch", "numpy", "scikit-learn", "scipy", "optuna", "schedulefree")


class Folder:
    """A folder of results; whatever is written appears whole or not at all.

    Attributes:
        path: where it is.
        manifest: identity (what the results are of), optimum, tuned (settings by optimizer),
            command, versions and machine.
        runs: all rows so far.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], runs: pd.DataFrame) -> None:
        self.path = path
        self.manifest = manifest
        self.runs = runs

    @classmethod
    def create_or_resume(
        cls, path: Path, identity: dict[str, Any], facts: dict[str, Any]
    ) -> Folder:
        """Open a folder for a comparison; nothing is written yet when it is new.

        Args:
            path: the folder; it is made by the first result.
            identity: what the comparison is of: results of two different ones never mix.
            facts: more for the manifest.

        Raises:
            InputError: the folder holds something else, or results of another comparison.
        """
        if path.is_file():
            raise InputError(f"{path} is a file: give a folder with --out.")
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            manifest = {
                "identity": identity,
                **facts,
                "tuned": {},
                "command": " ".join(["trainopt", *sys.argv[1:]]),
                "versions": {name: version(name) for name in _VERSIONS},
                "machine": {
                    "python": platform.python_version(),
                    "system": platform.platform(),
                    "cores": os.cpu_count(),
                },
            }
            return cls(path, manifest, pd.DataFrame())
        folder = cls.load(path, must_have_runs=False)
        kept = folder.manifest["identity"]
        for name, value in identity.items():
            if kept.get(name) != value:
                raise InputError(
                    f"{path} holds results with {name} {kept.get(name)}, not {value}: give another "
                    "folder with --out, or remove this one."
                )
        return folder

    @classmethod
    def load(cls, path: Path, must_have_runs: bool = True) -> Folder:
        """Open a folder that holds results.

        Raises:
            InputError: there is none, or it can't be read.
        """
        if not path.is_dir():
            raise InputError(f"There is no folder {path}: give one that `trainopt compare` made.")
        try:
            manifest = json.loads((path / "run.json").read_text())
            manifest["identity"], manifest["tuned"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} holds no results of `trainopt compare`: give another folder."
            ) from None
        table = path / "runs.parquet"
        if not table.exists() and not must_have_runs:
            return cls(path, manifest, pd.DataFrame())
        try:
            runs = pd.read_parquet(table)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{table} can't be read: let `trainopt compare` make the results again."
            ) from error
        return cls(path, manifest, runs)

    def has(self, optimizer: str, seed: int) -> bool:
        """Whether the run is there already."""
        if self.runs.empty:
            return False
        return bool(((self.runs.optimizer == optimizer) & (self.runs.seed == seed)).any())

    def save_manifest(self) -> None:
        """Write down what the folder is for, before anything else is written into it."""
        text = json.dumps(self.manifest, indent=2) + "\n"
        write_whole(self.path / "run.json", text.encode())

    def keep_settings(self, optimizer: str, settings: Settings) -> None:
        """Write down what an optimizer was tuned to."""
        self.manifest["tuned"][optimizer] = settings
        self.save_manifest()

    def keep_run(self, rows: list[Row]) -> None:
        """Append a finished run."""
        self.runs = pd.concat([self.runs, pd.DataFrame(rows)], ignore_index=True)
        write_whole(self.path / "runs.parquet", self.runs.to_parquet(index=False))


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and rename, so that no reader ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(content)
    os.replace(beside, path)
