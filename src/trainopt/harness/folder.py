"""The results folder: `run.json` says what is in it, `runs.parquet` holds the table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.errors import InputError
from trainopt.harness.lock import HOLDER, LOCK, UNFINISHED, locked
from trainopt.harness.provenance import MADE_BY, commands, provenance, read_makers, with_maker

_OURS = re.compile(f"{re.escape(LOCK)}|{re.escape(HOLDER)}|{UNFINISHED.pattern}")
_DIGEST = 64
_PARTS = {"identity", "title", "n", "dim", "optimum", MADE_BY}
_COLUMNS = {
    *("optimizer", "seed", "epoch", "step", "seconds", "settings", "state_bytes"),
    *("train_loss", "suboptimality", "estimator_error", "val_loss", "val_accuracy"),
}


class Folder:
    """The folder of a comparison of a linear problem.

    Attributes:
        path: where it is.
        manifest: identity (what the results are of), facts of the problem, and all that made it.
        runs: all rows so far.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], runs: pd.DataFrame) -> None:
        self.path = path
        self.manifest = manifest
        self.runs = runs

    @classmethod
    def load(cls, path: Path) -> Folder:
        """Open a folder that holds results.

        Raises:
            InputError: there is none, or it can't be read.
        """
        if not path.is_dir():
            raise InputError(f"There is no folder {path}: give one that `trainopt compare` made.")
        manifest = read_manifest(path)
        if manifest is None:
            raise InputError(
                f"{path} holds no results of `trainopt compare`: it has no run.json that can be "
                "read; give another folder."
            )
        if _PARTS - manifest.keys() or not isinstance(manifest["identity"], dict):
            raise InputError(
                f"{path} holds no results of `trainopt compare`{_maker(manifest)}: run that again, "
                "which draws its report, or give another folder."
            )
        table = path / "runs.parquet"
        try:
            runs = pd.read_parquet(table)
            damage = ", ".join(sorted(_COLUMNS - set(runs.columns)))
        except FileNotFoundError:
            raise InputError(
                f"{path} holds no runs yet: `trainopt compare` with --out {path} makes them."
            ) from None
        except (OSError, ValueError) as error:
            damage = str(error).splitlines()[0]
        if damage:
            raise InputError(
                f"{table} is damaged or incomplete ({damage}): remove it, and `trainopt compare` "
                f"with --out {path} makes the runs again, with the settings that were found."
            )
        return cls(path, manifest, runs)


def _maker(manifest: dict[str, Any]) -> str:
    makers = commands(manifest).splitlines()
    return f", but of `{makers[-1]}`" if makers and makers[-1] else ", but something else"


def claimed(path: Path, command: str, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The run.json of the results that a command may go on with; None for a new folder.

    Every command asks here before it writes into a folder, so that none overwrites what another
    one, or the user, has put there.

    Args:
        path: the folder, there or not.
        command: the one that asks, such as "study memory".
        identity: what its results are of: the names that run.json must hold, with these values.

    Raises:
        InputError: there is a file, or a folder with anything else in it.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: give a folder with --out.")
    if not path.exists() or all(_OURS.fullmatch(file.name) for file in path.iterdir()):
        return None
    manifest = read_manifest(path)
    kept = {} if manifest is None else manifest.get("identity", manifest)
    if not isinstance(kept, dict) or not identity.keys() <= kept.keys():
        raise InputError(
            f"{path} holds no results of `trainopt {command}`, but something else: give another "
            "folder with --out."
        )
    for name, value in identity.items():
        if kept[name] != value:
            digest = isinstance(value, str) and len(value) == _DIGEST
            held = f"of another {name}" if digest else f"with {name} {kept[name]}, not {value}"
            raise InputError(
                f"{path} holds results {held}: give another folder with --out, or remove this one."
            )
    return manifest


@contextmanager
def writing(
    path: Path, command: str, identity: dict[str, Any], **more: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Hold a folder while a command writes into it: two at once would lose each other's results.

    Args:
        path: the folder; it is made where there is none.
        command: the one that writes.
        identity: as in `claimed`.
        more: versions or facts of the machine, besides those of `provenance`.

    Yields:
        What run.json holds, or nothing yet, with this command among its makers.

    Raises:
        InputError: as `claimed`; or another process holds the folder: then nothing is changed.
    """
    claimed(path, command, identity)
    made = provenance()
    for name, facts in more.items():
        made[name] = made[name] | facts
    with locked(path):
        yield with_maker(claimed(path, command, identity) or {}, made)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What run.json says, without passwords; None where there is no such file, or no JSON in it."""
    try:
        manifest = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict):
        return None
    return read_makers(manifest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write run.json; the folder is made where there is none."""
    write_whole(folder / "run.json", (json.dumps(manifest, indent=2) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and rename, so that no reader ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except BaseException:  # a full disk
        beside.unlink(missing_ok=True)
        raise


def read_folder(
    folder: Path, names: Sequence[str], digest: str | None, command: str
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Read run.json and the Parquet tables of these names.

    Args:
        folder: of the results.
        names: of the tables.
        digest: of the protocol that must have made them; None for any.
        command: that makes them, for the sentence.

    Raises:
        InputError: something is missing, or it is of another protocol.
    """
    manifest = read_manifest(folder) or {}
    try:
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    except OSError as error:
        raise InputError(
            f"{folder} doesn't hold what `{command}` writes ({error}): run it with this folder as "
            "--out first."
        ) from error
    if digest is not None and manifest.get("protocol") != digest:
        raise InputError(f"{folder} is of another protocol: give that one with --protocol.")
    return manifest, tables
