"""The scientific study: every problem, optimizer and seed of the protocol, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from trainopt.harness.folder import write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.progress import Progress
from trainopt.scientific.optimizers import CONTROLS, Settings
from trainopt.scientific.problems import problem_named
from trainopt.scientific.protocol import Protocol
from trainopt.scientific.runner import train

BLOCK = 3
"""Seeds after which the controls are run, too."""
KEY = ["problem", "optimizer", "seed", "settings"]
"""The columns that tell one run from another."""


class Unit(NamedTuple):
    """A run that is kept as soon as it is there.

    Attributes:
        problem, optimizer: names.
        seed: of the run.
        choice: which of the optimizer's settings is tried; None is the best one found.
    """

    problem: str
    optimizer: str
    seed: int
    choice: int | None


def run_scientific(protocol: Protocol, out: Path, show: bool) -> None:
    """Run what is missing of the study, on one thread.

    Every run is kept as soon as it is there; called again, the command goes on after them. All
    problems have their first seed before any has its second, and the controls come last of every
    three seeds, so that a part of the study is a result.

    Args:
        protocol: what to run.
        out: folder for run.json and runs.parquet.
        show: draw a progress bar.

    Raises:
        InputError: `out` holds something else, or a data set can't be had.
    """
    identity = {"protocol": protocol.digest}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with writing(out, "study scientific", identity) as kept:
            write_manifest(out, {"study": "scientific", **identity, **kept})
            _run(protocol, out, show)
    finally:
        torch.set_num_threads(threads)


def _run(protocol: Protocol, out: Path, show: bool) -> None:
    table = Growing(out / "runs.parquet", KEY)
    units = list(_units(protocol))
    problem = lru_cache(problem_named)
    with Progress(len(units), show) as bar:
        for unit in units:
            bar.describe(f"{unit.problem}: {unit.optimizer}")
            settings = _settings(protocol, unit, table.rows)
            key = (unit.problem, unit.optimizer, unit.seed, json.dumps(settings))
            if key not in table.there:
                rows = train(
                    problem(unit.problem),
                    unit.optimizer,
                    settings,
                    unit.seed,
                    protocol.passes,
                    protocol.chunks,
                    protocol.marks,
                )
                names = dict(zip(KEY, key, strict=True))
                table.add(pd.DataFrame([names | row for row in rows]))
            bar.counter(1)(1)
            bar.finished(f"{unit.problem}: {unit.optimizer}, seed {unit.seed}")


def _units(protocol: Protocol) -> Iterator[Unit]:
    for problem in protocol.problems:
        for optimizer, choices in protocol.settings.items():
            for choice in range(len(choices)) if len(choices) > 1 else ():
                yield Unit(problem, optimizer, protocol.tuning_seed, choice)
    controls = [name for name in protocol.optimizers if name in CONTROLS]
    others = [name for name in protocol.optimizers if name not in CONTROLS]
    seeds = range(protocol.seeds)
    for first in seeds[::BLOCK]:
        for optimizers in (others, controls):
            for seed in seeds[first : first + BLOCK]:
                for problem in protocol.problems:
                    for optimizer in optimizers:
                        yield Unit(problem, optimizer, seed, None)


def _settings(protocol: Protocol, unit: Unit, runs: pd.DataFrame) -> Settings:
    """The settings of a run: those that are tried, or the best of them."""
    optimizer = protocol.like.get(unit.optimizer, unit.optimizer)
    choices = protocol.settings[optimizer]
    if unit.choice is not None:
        return choices[unit.choice]
    if len(choices) == 1:
        return choices[0]
    tried = runs[
        (runs.problem == unit.problem)
        & (runs.optimizer == optimizer)
        & (runs.seed == protocol.tuning_seed)
    ]
    best: Settings = json.loads(ends(tried).sort_values("loss").settings.iloc[0])
    return best


def ends(runs: pd.DataFrame) -> pd.DataFrame:
    """The last row of every run."""
    last: pd.DataFrame = runs.groupby(KEY, sort=False).tail(1)
    return last
