"""The protocol of the scientific study: protocols/scientific.toml, read, checked and typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainopt.errors import InputError
from trainopt.harness.protocol_file import (
    at_least_one,
    check,
    check_known,
    digest_of,
    protocol_table,
)
from trainopt.scientific.optimizers import OPTIMIZERS, Settings
from trainopt.scientific.problems import PROBLEMS


@dataclass(frozen=True)
class Protocol:
    """What the study runs, and how its results are judged; see protocols/scientific.toml.

    Attributes:
        problems: names, and whether each was held out while settings were chosen.
        settings: for every optimizer, those to choose from on each problem.
        like: for an optimizer that takes another's settings, the other.
        passes, chunks, marks: of every run.
        seeds: number of runs.
        tuning_seed: of the runs that choose.
        level: of the tests.
        digest: SHA-256 in hex of all that decides a number.
    """

    problems: dict[str, bool]
    settings: dict[str, list[Settings]]
    like: dict[str, str]
    passes: int
    chunks: int
    marks: int
    seeds: int
    tuning_seed: int
    level: float
    digest: str

    @property
    def optimizers(self) -> list[str]:
        """Names, those whose settings others take before these."""
        return [*self.settings, *self.like]


def read_protocol(path: Path | None = None, quick: bool = False) -> Protocol:
    """Read a protocol, the committed one by default; with `quick`, its small version.

    Raises:
        InputError: there is no such file, or something in it is missing or isn't known.
    """
    with protocol_table(path, "scientific") as table:
        _check(table)
        digest = digest_of(table, quick=quick)
        problems = {row["name"]: bool(row["held_out"]) for row in table["problem"]}
        run = table
        if quick:
            check(table, "its top level", {"quick": dict}, dict.fromkeys(table, object))
            small = table["quick"]
            problems = {name: problems[name] for name in small["problems"]}
            run = table | {name: small[name] for name in ("passes", "seeds")}
        optimizers: dict[str, Any] = table["optimizer"]
        check_known("scientific problem", problems, PROBLEMS)
        check_known("scientific optimizer", optimizers, OPTIMIZERS)
        at_least_one(run, "its top level", "passes", "chunks", "marks", "seeds")
        like = {name: row["like"] for name, row in optimizers.items() if "like" in row}
        settings = {
            name: list(row["settings"]) for name, row in optimizers.items() if name not in like
        }
        for name, other in like.items():
            if other not in settings:
                raise InputError(
                    f"{name} takes its settings from {other}, which has none in the protocol: add "
                    f"them, or leave {name} out."
                )
        return Protocol(
            problems=problems,
            settings=settings,
            like=like,
            passes=run["passes"],
            chunks=run["chunks"],
            marks=run["marks"],
            seeds=run["seeds"],
            tuning_seed=run["tuning_seed"],
            level=run["level"],
            digest=digest,
        )


def _check(table: dict[str, Any]) -> None:
    """Hold the file to its keys.

    Raises:
        Fault: one is missing, isn't known, or has a value of another kind.
    """
    counts: dict[str, type] = dict.fromkeys(("passes", "chunks", "marks", "seeds"), int)
    more: dict[str, type] = {"tuning_seed": int, "level": float, "problem": list}
    check(table, "its top level", counts | more | {"optimizer": dict}, {"quick": dict})
    small: dict[str, type] = {"problems": list, "passes": int, "seeds": int}
    check(table.get("quick", {}), "[quick]", {}, small)
    for number, row in enumerate(table["problem"], 1):
        check(row, f"the [[problem]] {row.get('name', number)}", {"name": str, "held_out": bool})
    for name, own in table["optimizer"].items():
        check(own, f"[optimizer.{name}]", {}, {"settings": list, "like": str})
