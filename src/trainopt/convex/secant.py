"""SecantTO at its defaults on the cases of the convex study, and peers on its order of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from trainopt.convex.batched import Batched, train_all
from trainopt.convex.batched_steps import METHODS
from trainopt.convex.conditioning import check_optimum
from trainopt.convex.problems import Problem
from trainopt.convex.protocol import Case
from trainopt.convex.secant_ablations import run_ablations
from trainopt.convex.secant_runs import sampler, train_secant
from trainopt.convex.secant_seconds import run_seconds
from trainopt.convex.tables import Results, best_settings
from trainopt.harness.folder import write_manifest, writing
from trainopt.harness.growing import Growing
from trainopt.harness.names import NORMALISED
from trainopt.harness.palette import TITLES
from trainopt.harness.progress import Progress
from trainopt.harness.provenance import MADE_BY
from trainopt.secant import ChunkSampler


@dataclass(frozen=True)
class Variant:
    """Something that is run on every case; all of them read the rows in fixed chunks.

    Attributes:
        name: in the tables of results.
        title: in words.
        chunks: K.
        tuned: the optimizer of the convex study whose settings are run; None is SecantTO.
    """

    name: str
    title: str
    chunks: int
    tuned: str | None = None


def _secant(chunks: int) -> Variant:
    return Variant(f"secant-{chunks}", f"SecantTO, K = {chunks}", chunks)


def _in_chunks(optimizer: str) -> Variant:
    return Variant(f"{optimizer}-chunks", f"{TITLES[optimizer]}, fixed chunks", 8, optimizer)


# In the order in which they are run: what matters most comes first, Full-TO, the dearest, last.
_FIRST = ("adam", "schedulefree-sgd", "momentum")
_REST = sorted(
    set(METHODS) - {*_FIRST, *NORMALISED}, key=lambda name: (name == "full", name == "svrg", name)
)
VARIANTS = (
    _secant(8),
    _secant(4),
    *map(_in_chunks, _FIRST),
    _secant(1),
    *map(_in_chunks, _REST),
)
SECANTS = tuple(variant for variant in VARIANTS if variant.tuned is None)
CHUNKED = tuple(variant for variant in VARIANTS if variant.tuned is not None)


class BatchedInChunks(Batched):
    """A problem whose rows are read by `ChunkSampler`s, one for each seed.

    Attributes:
        samplers: the rows of the next passes; every run needs fresh ones.
    """

    def __init__(self, problem: Problem, samplers: Sequence[ChunkSampler]) -> None:
        super().__init__(problem)
        self.samplers = samplers

    def orders(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The samplers' next passes, (seeds, n)."""
        return torch.tensor([list(chain.from_iterable(read)) for read in self.samplers])


def run_secant(convex: Results, out: Path, show: bool) -> None:
    """Run what is missing: every variant, case, search and seed of the convex study's protocol.

    And the ablations and the clock. One process. A variant's runs on a case are kept together as
    soon as they are there; called
    again, the command goes on after them.

    Args:
        convex: the study whose cases, optima and tuned settings are taken.
        out: folder for run.json and the tables runs, ablations and seconds (Parquet).
        show: draw a progress bar.

    Raises:
        InputError: `out` holds something else, or the data aren't those of the convex study.
    """
    protocol = convex.protocol
    identity = {"study": "secant", "convex_protocol": protocol.digest}
    with writing(out, "study secant", identity) as kept:
        made = convex.manifest[MADE_BY][0]
        facts = {"convex_commit": made.get("commit"), "seeds": list(range(protocol.seeds))}
        write_manifest(out, {**facts, **identity, **kept})
        run_ablations(convex, out, show)
        run_seconds(convex, out, show)
        _run(convex, out, show)


def _run(convex: Results, out: Path, show: bool) -> None:
    protocol = convex.protocol
    table = Growing(out / "runs.parquet", ("problem", "optimizer"))
    cases = [case for case in protocol.cases if case.name in convex.manifest["problems"]]
    cases.sort(key=lambda case: _cost(convex, case))
    units = [
        (variant, case)
        for variant in VARIANTS
        for case in cases
        if (case.name, variant.name) not in table.there
    ]
    with Progress(sum(_cost(convex, case) for _, case in units), show) as bar:
        for variant, case in units:
            bar.describe(f"{case.name}: {variant.name}")
            table.add(pd.DataFrame(_runs(convex, variant, case)))
            bar.counter(_cost(convex, case))(1)


def _cost(convex: Results, case: Case) -> float:
    """About how many seconds a variant's runs on the case take."""
    size = convex.manifest["problems"][case.name]
    steps = size["n"] / case.batch + 8
    per_pass = 4e-4 * steps + 4e-9 * size["n"] * size["d"]
    return float(per_pass * case.passes * convex.protocol.seeds)


def _runs(convex: Results, variant: Variant, case: Case) -> Iterator[dict[str, Any]]:
    """A row for every search, seed and pass."""
    facts = convex.manifest["problems"][case.name]
    problem = case.problem()
    check_optimum(problem, facts)
    seeds, best = range(convex.protocol.seeds), facts["best"]
    if variant.tuned is None:
        found = train_secant(problem, [{"chunks": variant.chunks}], seeds, case.passes, best)
    else:
        data = BatchedInChunks(problem, [sampler(problem, variant.chunks, s) for s in seeds])
        settings = best_settings(convex.trials, case.name, variant.tuned, convex.protocol.main)
        found = train_all(data, variant.tuned, settings, seeds, case.passes, best)
    for search, by_seed in enumerate(found.suboptimality):
        for seed, curve in enumerate(by_seed):
            for epoch, value in enumerate(curve):
                yield {
                    "problem": case.name,
                    "optimizer": variant.name,
                    "search": search,
                    "seed": seed,
                    "passes": epoch * found.passes,
                    "suboptimality": float(value),
                }
