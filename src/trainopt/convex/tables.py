"""The tables of the convex study, out of its runs: what the pictures and the page show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainopt.convex.names import ABLATIONS, OURS, TO
from trainopt.convex.protocol import Protocol, check_optimizers
from trainopt.harness.folder import read_folder
from trainopt.harness.optimizers import Settings
from trainopt.harness.outcomes import FLOOR, by_seed, measured
from trainopt.harness.palette import TITLES
from trainopt.harness.ranking import Ranking, ranking
from trainopt.harness.statistics import (
    SEARCH_LUCK,
    compared,
    counted,
    counts_words,
    t_and_wilcoxon,
)


@dataclass(frozen=True, eq=False)
class Results:
    """A folder of the convex study, with everything that is derived from it.

    Attributes:
        protocol: what was run.
        manifest: run.json.
        runs, trials, solvers, timing: the tables as the run loop wrote them.
    """

    protocol: Protocol
    manifest: dict[str, Any]
    runs: pd.DataFrame
    trials: pd.DataFrame
    solvers: pd.DataFrame
    timing: pd.DataFrame

    @classmethod
    def load(cls, folder: Path, protocol: Protocol) -> Results:
        """Read the folder.

        Raises:
            InputError: something is missing, or it is of another protocol.
        """
        names = ("runs", "trials", "solvers", "timing")
        manifest, tables = read_folder(folder, names, protocol.digest, "trainopt study convex")
        check_optimizers(manifest, protocol, folder)
        return cls(protocol, manifest, **tables)

    @property
    def cases(self) -> list[str]:
        """The cases that were run, in the protocol's order."""
        return [case.name for case in self.protocol.cases if case.name in self.manifest["problems"]]

    @cached_property
    def seconds_per_pass(self) -> pd.Series[float]:
        """By (case, optimizer): what a pass over the data takes, gradients and updates."""
        batches = {case.name: case.batch for case in self.protocol.cases}
        passes = {"svrg": 3}
        table = self.timing.assign(
            steps=[
                np.ceil(self.manifest["problems"][case]["n"] / batches[case]) / passes.get(name, 1)
                for case, name in zip(self.timing.problem, self.timing.optimizer, strict=True)
            ]
        )
        seconds: pd.Series[float] = table.set_index(["problem", "optimizer"]).eval(
            "seconds_per_step * steps"
        )
        return seconds

    def at(self, budget: int) -> pd.DataFrame:
        """Every run with the best setting of that many trials, measured."""
        best = {case: facts["best"] for case, facts in self.manifest["problems"].items()}
        runs = self.runs[self.runs.budget == budget]
        target = self.protocol.profile_target
        return measured(runs, self.seconds_per_pass, best, target)

    @cached_property
    def main(self) -> pd.DataFrame:
        """The runs of the main budget, measured."""
        return self.at(self.protocol.main)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """The same with the mean over searches."""
        return by_seed(self.main)

    @cached_property
    def finals(self) -> pd.DataFrame:
        """log₁₀(F − F*) and F at the end, by case, optimizer and seed, for solvers too.

        Solvers have the mean over their own seeds at every seed, since they don't see the
        mini-batches: a paired test against them is a test against that number.
        """
        seeds = self.seeds[["problem", "optimizer", "seed", "final", "loss"]]
        ends = self.solvers.groupby(["problem", "optimizer", "seed"]).suboptimality.last()
        best = {case: facts["best"] for case, facts in self.manifest["problems"].items()}
        solved = ends.reset_index().assign(
            final=lambda table: np.log10(table.suboptimality.clip(lower=FLOOR)),
            loss=lambda table: table.problem.map(best) + table.suboptimality,
        )
        solved = solved.groupby(["problem", "optimizer"])[["final", "loss"]].mean().reset_index()
        solved = solved.merge(pd.DataFrame({"seed": range(self.protocol.seeds)}), how="cross")
        finals: pd.DataFrame = pd.concat([seeds, solved], ignore_index=True)
        return finals

    def against(self, reference: str) -> pd.DataFrame:
        """Every optimizer against one, case by case."""
        if reference not in self._compared:
            self._compared[reference] = self._compare(self.seeds, reference)
        return self._compared[reference]

    @cached_property
    def _compared(self) -> dict[str, pd.DataFrame]:
        return {}

    def _compare(
        self, seeds: pd.DataFrame, reference: str, resamples: int | None = None
    ) -> pd.DataFrame:
        tests = t_and_wilcoxon(self.protocol.resamples if resamples is None else resamples)
        level = self.protocol.level
        return compared(seeds, reference, level, tests, value="final")

    def means(self, column: str) -> pd.DataFrame:
        """The mean of a measure over seeds: cases are rows, optimizers columns."""
        table: pd.DataFrame = self.seeds.pivot_table(
            index="problem", columns="optimizer", values=column, observed=True
        )
        return table

    def rank(self, column: str) -> Ranking:
        """All tuned optimizers but the ablations, ranked by a measure over the cases."""
        parts = [name for name in ABLATIONS if name not in ("alpha0", "sgd")]
        table = self.means(column).drop(columns=parts, errors="ignore")
        return ranking(table.dropna(axis=1), self.protocol.level)

    def costs(self, column: str) -> pd.DataFrame:
        """What optimizers and solvers need to reach the target: the median over runs."""
        tuned = self.main.groupby(["problem", "optimizer"], observed=True)[column].median()
        table = pd.concat([tuned, self._solver_costs(column)]).unstack("optimizer")
        # A solver that can't take a case hasn't solved it.
        costs: pd.DataFrame = table.fillna(np.inf)
        return costs

    def _solver_costs(self, column: str) -> pd.Series[float]:
        x = {"passes_to": "passes", "seconds_to": "seconds"}[column]
        starts = self.runs[self.runs.passes == 0].groupby("problem", observed=True)
        start = starts.suboptimality.first()
        rows = self.solvers.merge(start.rename("start"), left_on="problem", right_index=True)
        solved = rows[rows.suboptimality <= self.protocol.profile_target * rows.start]
        first = solved.groupby(["problem", "optimizer", "seed"])[x].min()
        costs: pd.Series[float] = first.groupby(level=["problem", "optimizer"]).median()
        return costs

    def summary(self) -> pd.DataFrame:
        """Every tuned optimizer: verdicts against ADAM, ADAM at a constant rate and α = 0; ranks.

        Columns: wins, ties and losses as "win", "tie" and "loss" with the reference's name after a
        colon, the median difference in decades and the median ρ, and mean ranks.
        """
        pieces = []
        for reference in self.references:
            counts = counted(self.against(reference))
            pieces.append(counts.add_suffix(f":{reference}"))
        table = pd.concat(pieces, axis=1)
        for column in ("final", "area", "area_seconds"):
            table[f"rank:{column}"] = self.rank(column).ranks
        reached = np.isfinite(self.costs("passes_to")).sum()
        table["solved"] = reached.reindex(table.index)
        ordered: pd.DataFrame = table.sort_values("rank:final")
        return ordered

    @cached_property
    def optimizers(self) -> list[str]:
        """What was run, in the order of their titles' table."""
        there = set(self.runs.optimizer)
        return [name for name in TITLES if name in there]

    @property
    def ours(self) -> list[str]:
        """The Trainable Optimizers that were run."""
        return [name for name in OURS if name in set(self.runs.optimizer)]

    @property
    def references(self) -> tuple[str, ...]:
        """What all are compared with."""
        names = (self.protocol.reference, "adam-constant", self.protocol.baseline)
        return tuple(name for name in names if name in self.optimizers)

    def budgets(self) -> pd.DataFrame:
        """How the verdicts against the reference depend on the number of trials.

        One row per set of cases, budget and optimizer; budgets are compared on the same cases.
        """
        protocol = self.protocol
        long = [case.name for case in protocol.cases if case.trials > protocol.main]
        groups = {
            "all": (protocol.budgets, self.cases),
            "sensitivity": ((*protocol.budgets, protocol.sensitivity), long),
        }
        pieces = []
        for title, (budgets, cases) in groups.items():
            for budget in budgets if cases else ():
                seeds = by_seed(self.at(budget))
                seeds = seeds[seeds.problem.isin(cases)]
                # Counts come from tests: of the intervals any do.
                found = self._compare(seeds, protocol.reference, resamples=2)
                counts = counted(found).reset_index()
                finals = seeds.groupby("optimizer", observed=True).final.mean()
                counts["final"] = counts.optimizer.map(finals)
                pieces.append(counts.assign(problems=title, budget=budget))
        result: pd.DataFrame = pd.concat(pieces, ignore_index=True)
        return result

    def search_spread(self) -> pd.DataFrame:
        """How far independent searches end apart: standard deviation in decades, by optimizer.

        Columns: median and largest over the cases that were searched more than once.
        """
        means = self.main.groupby(["problem", "optimizer", "search"], observed=True).final.mean()
        spread = means.replace(np.inf, np.nan).groupby(level=[0, 1], observed=True).std().dropna()
        by_optimizer = spread.groupby(level="optimizer", observed=True)
        table: pd.DataFrame = by_optimizer.agg(["median", "max"]).sort_values("median")
        return table


# What SecantTO is measured by.
RIVALS = ("adam", "schedulefree-sgd", "schedulefree-adamw")
_REFERENCES = {
    "adam": "ADAM with the same decays",
    "adam-constant": "ADAM at a constant rate",
    "alpha0": "α = 0 (momentum)",
}


def headline(results: Results) -> list[str]:
    """What was found, in sentences whose numbers come from the tables; what is best comes first."""
    cases = len(results.cases)
    sentences = []
    for name in TO:
        if name in results.optimizers:
            counts = (
                f"{counts_words(_counts(results, name, reference))} against "
                f"{_REFERENCES[reference]}"
                for reference in results.references
            )
            sentences.append(f"{TITLES[name]}, {cases} cases: " + "; ".join(counts) + ".")
    if "secant" in results.optimizers:
        ahead, sentence = _secant_sentence(results)
        sentences.insert(0 if ahead else len(sentences), sentence)
    sentences.append(f"Of all these differences: {SEARCH_LUCK}")
    return sentences


def _secant_sentence(results: Results) -> tuple[bool, str]:
    """Whether untuned SecantTO wins most cases against each of its rivals, and that in words."""
    counts = {name: _counts(results, "secant", name) for name in RIVALS}
    ahead = all(2 * count["win"] > len(results.cases) for count in counts.values())
    first, *others, last = (
        f"{counts_words(count)} against {TITLES[name]}" for name, count in counts.items()
    )
    verdict = "beats" if ahead else "does not beat"
    level = results.protocol.level
    return ahead, (
        f"SecantTO, untuned, {verdict} each of its rivals, tuned with {results.protocol.main} "
        f"trials, on most of the {len(results.cases)} cases: {', '.join([first, *others])} and "
        f"{last} (p below {level:g} by both tests, Holm-corrected over the cases)."
    )


def _counts(results: Results, name: str, reference: str) -> pd.Series[float]:
    table = results.against(reference)
    counts: pd.Series[float] = counted(table[table.optimizer == name]).iloc[0]
    return counts


def best_settings(trials: pd.DataFrame, case: str, optimizer: str, budget: int) -> list[Settings]:
    """The best settings of each of an optimizer's searches, among its first `budget` trials.

    Args:
        trials: columns case, optimizer, search, number, score and settings (JSON).
        case: its name.
        optimizer: its name.
        budget: a number of trials.
    """
    part = trials[
        (trials.problem == case) & (trials.optimizer == optimizer) & (trials.number < budget)
    ]
    best = part.loc[part.groupby("search").score.idxmin()].sort_values("search")
    return [json.loads(settings) for settings in best.settings]
