"""The protocol of the strongly convex study: a TOML file, checked and typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution

from trainopt.convex.problems import MODELS, Problem
from trainopt.convex.secant_runs import STARTS as SECANTS
from trainopt.data import load
from trainopt.data.sources import SOURCES
from trainopt.errors import InputError
from trainopt.harness.names import optimizers_of
from trainopt.harness.optimizers import OPTIMIZERS, Settings
from trainopt.harness.protocol_file import (
    at_least_one,
    check,
    check_known,
    check_named,
    digest_of,
    distribution,
    extended,
    protocol_table,
    settings_of,
)

# Data that neither the convex study nor the making of SecantTO has seen.
NEW_DATA = Path(str(resources.files("trainopt") / "protocols" / "convex-new.toml"))
# SVRG isn't an optimizer that `compare` can run: it needs gradients at two points.
_SVRG: Settings = {"lr": 0.1, "lr_schedule": "constant"}
# What belongs to single optimizers: another one can join without a change to the common part.
_OWN = ("space", "space_of", "searches_of", "optimizers")


@dataclass(frozen=True)
class Case:
    """One strongly convex problem of the study; `passes` is the budget of a run."""

    name: str
    data: str
    model: str
    l2: float
    batch: int
    passes: int
    searches: int
    trials: int
    scaling: str | None = None

    def problem(self) -> Problem:
        """Read the data and build the problem.

        Raises:
            InputError: the data aren't installed and can't be fetched.
        """
        dataset = load(self.data, self.scaling)  # type: ignore[arg-type]
        return Problem(self.name, dataset, MODELS[self.model], self.l2, self.batch)


@cache
def sizes(case: Case) -> dict[str, int]:
    """Training rows n and weights d, out of the data, which are read once.

    Raises:
        InputError: the data aren't installed and can't be fetched.
    """
    problem = case.problem()
    return {"n": problem.n, "d": problem.dim}


def work(case: Case, size: Mapping[str, Any]) -> float:
    """About how much a case is, from its n and d: the order in which a part says most."""
    return float(case.passes * size["n"] / case.batch * (1000 + size["d"]))


@dataclass(frozen=True)
class Protocol:
    """What the study runs, and how its results are judged; see protocols/convex.toml.

    Attributes:
        cases: the problems.
        spaces: for every optimizer, what is searched; an untuned one has nothing to search.
        starts: for every optimizer, its first trial.
        searches_of: of an optimizer that has fewer searches than a case says.
        startup, at_once, tuning_seeds: of the search.
        seeds: number of final runs.
        budgets: numbers of trials whose best is run; the one that `main` names is the main result.
        main: trials of the main result.
        sensitivity: trials of the cases that search on.
        targets: parts of F(0) − F*.
        profile_target: the one of the profiles.
        reference, baseline: optimizers that all are compared with.
        level, resamples: of the tests and the bootstrap.
        digest: SHA-256 in hex of everything that all optimizers have in common.
        own: for every optimizer, the same of what it has of its own: a search and its start.
    """

    cases: tuple[Case, ...]
    spaces: dict[str, dict[str, BaseDistribution]]
    starts: dict[str, Settings]
    searches_of: dict[str, int]
    startup: int
    at_once: int
    tuning_seeds: tuple[int, ...]
    seeds: int
    budgets: tuple[int, ...]
    main: int
    sensitivity: int
    targets: tuple[float, ...]
    profile_target: float
    reference: str
    baseline: str
    level: float
    resamples: int
    digest: str
    own: dict[str, str]

    def searches(self, case: Case, optimizer: str) -> int:
        """How many searches an optimizer has on a case."""
        return min(case.searches, self.searches_of.get(optimizer, case.searches))

    def budgets_of(self, case: Case) -> tuple[int, ...]:
        """The budgets whose best setting is run, ascending."""
        more = (case.trials,) if case.trials > self.main else ()
        return (*self.budgets, *more)


def read_protocol(path: Path | None = None, quick: bool = False) -> Protocol:
    """Read a protocol, the committed one by default; with `quick`, its small version.

    One that `extends` a committed one takes what it doesn't say from that. With the same cases it
    is the same protocol, with its digest, for other optimizers. One with `optimizers` runs those
    only.

    Raises:
        InputError: there is no such file, or something in it isn't known.
    """
    with protocol_table(path, "convex") as table:
        if "extends" not in table:
            return _protocol(table, quick)
        with protocol_table(None, table["extends"]) as base:
            if "problem" in table:
                return _protocol(extended(table, _without(base, ("problem", "quick"))), quick)
            return _protocol(_without(extended(table, base), ("extends",)), quick)


def check_optimizers(manifest: dict[str, Any], protocol: Protocol, folder: Path) -> None:
    """Make sure that what a folder has of each optimizer was searched as the protocol says.

    Raises:
        InputError: it was not.
    """
    for name, own in manifest.get("optimizers", {}).items():
        if own != protocol.own.get(name, own):
            raise InputError(
                f"{folder} holds {name} with another search: give another folder with --out, or "
                "the protocol that made this one."
            )


def _protocol(table: dict[str, Any], quick: bool) -> Protocol:
    _check(table)
    tuning, final, tests = table["tuning"], table["final"], table["tests"]
    trials, searches, seeds = tuning["trials"], tuning["searches"], final["seeds"]
    sensitivity = table["sensitivity"]["trials"]
    rows, budgets = table["problem"], final["budgets"]
    if quick:
        check(table, "its top level", {"quick": dict}, dict.fromkeys(table, object))
        small = table["quick"]
        trials, searches, seeds = small["trials"], small["searches"], small["seeds"]
        sensitivity, budgets = small["sensitivity"], [small["trials"]]
        rows = [row | {"searches": searches} for row in rows if row["name"] in small["problems"]]
    cases = []
    for row in rows:
        check_known("data set", [row["data"]], SOURCES)
        check_known("model", [row["model"]], MODELS)
        fields = {"searches": searches} | row
        fields["trials"] = sensitivity if fields.pop("sensitivity", False) else trials
        cases.append(Case(**fields))
    starts = {name: OPTIMIZERS[name].start for name in optimizers_of("convex")}
    starts |= {"svrg": _SVRG} | SECANTS
    check_known("optimizer", table.get("optimizers", ()), starts)
    starts = {name: starts[name] for name in table.get("optimizers", starts)}
    searches_of = table["searches_of"]
    ranges = {name: settings_of(table, "space", name, start) for name, start in starts.items()}
    return Protocol(
        cases=tuple(cases),
        spaces={
            name: {setting: distribution(setting, values) for setting, values in own.items()}
            for name, own in ranges.items()
        },
        starts=starts,
        searches_of=searches_of,
        startup=min(tuning["startup"], trials),
        at_once=tuning["at_once"],
        tuning_seeds=tuple(tuning["seeds"]),
        seeds=seeds,
        budgets=tuple(budgets),
        main=trials,
        sensitivity=sensitivity,
        targets=tuple(table["targets"]["relative"]),
        profile_target=table["targets"]["profile"],
        reference=tests["reference"],
        baseline=tests["baseline"],
        level=tests["level"],
        resamples=tests["resamples"],
        digest=digest_of(_without(table, _OWN), quick=quick),
        own={
            name: digest_of(own, starts[name], searches_of.get(name), quick=False)
            for name, own in ranges.items()
        },
    )


def _without(table: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: part for name, part in table.items() if name not in names}


def _check(table: dict[str, Any]) -> None:
    """Hold the file to its keys.

    Raises:
        Fault: one is missing, isn't known, or has a value of another kind.
    """
    parts = ("tuning", "final", "sensitivity", "targets", "tests", "space", "space_of")
    tables: dict[str, type] = dict.fromkeys((*parts, "searches_of"), dict)
    optional: dict[str, type] = {"quick": dict, "extends": str, "optimizers": list}
    check(table, "its top level", {"problem": list, **tables}, optional)
    counts = dict.fromkeys(("trials", "startup", "at_once", "searches"), int)
    check(table["tuning"], "[tuning]", counts | {"seeds": list})
    at_least_one(table["tuning"], "[tuning]", "trials", "at_once", "searches")
    check(table["final"], "[final]", {"seeds": int, "budgets": list})
    at_least_one(table["final"], "[final]", "seeds")
    check(table["sensitivity"], "[sensitivity]", {"trials": int})
    check(table["targets"], "[targets]", {"relative": list, "profile": float})
    tests: dict[str, type] = {"reference": str, "baseline": str, "level": float, "resamples": int}
    check(table["tests"], "[tests]", tests, {"measure": str, "correction": str})
    small: dict[str, type] = dict.fromkeys(("trials", "searches", "seeds", "sensitivity"), int)
    check(table.get("quick", {}), "[quick]", {}, small | {"problems": list})
    names = [*optimizers_of("convex"), "svrg", *SECANTS]
    settings = {setting for entry in OPTIMIZERS.values() for setting in entry.settings}
    settings |= {setting for start in SECANTS.values() for setting in start}
    check_named(table["space"], "[space]", settings, list)
    check_named(table["space_of"], "[space_of]", names, dict)
    check_named(table["searches_of"], "[searches_of]", names, int)
    for name, own in table["space_of"].items():
        check_named(own, f"[space_of.{name}]", settings, list)
    required: dict[str, type] = {"name": str, "data": str, "model": str, "l2": float}
    required |= {"batch": int, "passes": int}
    optional = {"scaling": str, "searches": int, "sensitivity": bool}
    for number, row in enumerate(table["problem"], 1):
        where = f"the [[problem]] {row.get('name', number)}"
        check(row, where, required, optional)
        at_least_one(row, where, "batch", "passes")
