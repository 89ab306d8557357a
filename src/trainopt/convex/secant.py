"""SecantTO at its defaults on the cases of the convex study, and peers on its order of the rows."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainopt.convex.batched import Batched, train_all
from trainopt.convex.problems import Problem
from trainopt.convex.protocol import Case
from trainopt.convex.tables import Results
from trainopt.convex.train import train
from trainopt.errors import InputError
from trainopt.harness.folder import write_manifest, write_whole, writing
from trainopt.harness.optimizers import Entry, Settings
from trainopt.harness.palette import TITLES
from trainopt.harness.progress import Progress
from trainopt.harness.provenance import MADE_BY
from trainopt.secant import ChunkSampler, SecantTO


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


# In the order in which they are run: what matters most comes first.
VARIANTS = (
    _secant(8),
    _secant(4),
    _in_chunks("adam"),
    _in_chunks("schedulefree-sgd"),
    _in_chunks("momentum"),
    _secant(1),
)
SECANTS = tuple(variant for variant in VARIANTS if variant.tuned is None)
CHUNKED = tuple(variant for variant in VARIANTS if variant.tuned is not None)


class InChunks(Problem):
    """A problem whose rows are read by a `ChunkSampler`, whatever the generator says.

    Attributes:
        sampler: the rows of the next passes; every run needs a fresh one.
    """

    sampler: ChunkSampler

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """The sampler's next pass."""
        return [torch.tensor(rows) for rows in self.sampler]


class BatchedInChunks(Batched):
    """The same for many runs at once, a sampler for each seed."""

    def __init__(self, problem: Problem, samplers: Sequence[ChunkSampler]) -> None:
        super().__init__(problem)
        self.samplers = samplers

    def orders(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The samplers' next passes, (seeds, n)."""
        return torch.tensor([list(chain.from_iterable(read)) for read in self.samplers])


def run_secant(convex: Results, out: Path, show: bool) -> None:
    """Run what is missing: every variant, case, search and seed of the convex study's protocol.

    One process. A variant's runs on a case are kept together as soon as they are there; called
    again, the command goes on after them.

    Args:
        convex: the study whose cases, optima and tuned settings are taken.
        out: folder for run.json and runs.parquet.
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
        _run(convex, out, show)


def _run(convex: Results, out: Path, show: bool) -> None:
    protocol = convex.protocol
    path = out / "runs.parquet"
    runs = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["case", "optimizer"])
    there = set(zip(runs.case, runs.optimizer, strict=True))
    cases = [case for case in protocol.cases if case.name in convex.manifest["cases"]]
    cases.sort(key=lambda case: _cost(convex, case))
    units = [
        (variant, case)
        for variant in VARIANTS
        for case in cases
        if (case.name, variant.name) not in there
    ]
    with Progress(sum(_cost(convex, case) for _, case in units), show) as bar:
        for variant, case in units:
            bar.describe(f"{case.name}: {variant.name}")
            new = pd.DataFrame(_runs(convex, variant, case))
            runs = pd.concat([runs, new], ignore_index=True) if len(runs) else new
            write_whole(path, runs.to_parquet(index=False, compression="zstd"))
            bar.counter(_cost(convex, case))(1)


def _cost(convex: Results, case: Case) -> float:
    """About how many seconds a variant's runs on the case take."""
    size = convex.manifest["cases"][case.name]
    steps = size["n"] / case.batch + 8
    per_pass = 4e-4 * steps + 4e-9 * size["n"] * size["d"]
    return float(per_pass * case.passes * convex.protocol.seeds)


def _runs(convex: Results, variant: Variant, case: Case) -> Iterator[dict[str, Any]]:
    """A row for every search, seed and pass."""
    facts = convex.manifest["cases"][case.name]
    problem = case.problem()
    if not _is_optimum(problem, facts):
        raise InputError(
            f"The data of {case.name} aren't those of the convex study: run `trainopt study "
            "convex` on this machine first, and give its folder with --convex."
        )
    seeds, best = range(convex.protocol.seeds), facts["best"]
    if variant.tuned is None:
        curves = [_secant_curves(problem, variant.chunks, seeds, case.passes, best)]
    else:
        data = BatchedInChunks(problem, [sampler(problem, variant.chunks, s) for s in seeds])
        settings = _settings(convex, variant.tuned, case)
        found = train_all(data, variant.tuned, settings, seeds, case.passes, best)
        curves = list(found.suboptimality)
    for search, by_seed in enumerate(curves):
        for seed, curve in enumerate(by_seed):
            for passes, value in enumerate(curve):
                yield {
                    "case": case.name,
                    "optimizer": variant.name,
                    "search": search,
                    "seed": seed,
                    "passes": passes,
                    "suboptimality": float(value),
                }


def _is_optimum(problem: Problem, facts: dict[str, Any]) -> bool:
    """Whether the study's w* and F* are this problem's, to well below what a run can reach.

    Not by fingerprint: features that are computed differ by rounding between machines.
    """
    w = torch.tensor(facts["weights"], dtype=torch.float64).reshape(problem.shape)
    above = problem.full_gradient(w).square().sum().item() / (2 * problem.l2)
    return bool(max(above, abs(problem.objective(w) - facts["best"])) < 1e-13)


def _secant_curves(
    problem: Problem, chunks: int, seeds: Sequence[int], passes: int, best: float
) -> list[list[float]]:
    """F − F* of SecantTO from the start on, for each seed."""
    data = InChunks(problem.name, problem.dataset, problem.model, problem.l2, problem.batch_size)
    settings = {"lr": inspect.signature(SecantTO).parameters["lr"].default}
    curves = []
    for seed in seeds:
        data.sampler = sampler(problem, chunks, seed)
        rows = train(data, _entry(data.sampler), settings, seed, passes, best)
        curves.append([row["suboptimality"] for row in rows])
    return curves


def sampler(problem: Problem, chunks: int, seed: int) -> ChunkSampler:
    """The order of the rows in the run of that seed."""
    return ChunkSampler(problem.n, problem.batch_size, chunks, seed=seed)


def _settings(convex: Results, optimizer: str, case: Case) -> list[Settings]:
    """The best settings of each of an optimizer's searches, by its number of trials."""
    trials = convex.trials[
        (convex.trials.case == case.name)
        & (convex.trials.optimizer == optimizer)
        & (convex.trials.number < convex.protocol.main)
    ]
    best = trials.loc[trials.groupby("search").score.idxmin()].sort_values("search")
    return [json.loads(settings) for settings in best.settings]


def _entry(read: ChunkSampler) -> Entry:
    def make(params: list[Tensor], lr: float) -> Optimizer:
        return SecantTO(params, read, lr)

    return Entry("secant", make, _estimate, {})


def _estimate(optimizer: SecantTO, w: Tensor) -> Tensor:
    """Ĝ of the last move; in the base phase, which is SGD, the mini-batch's gradient."""
    try:
        return optimizer.estimate(w)
    except KeyError:
        assert w.grad is not None
        return w.grad
