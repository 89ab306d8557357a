"""The tables of the convex study, out of its runs: what the pictures and the page show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainopt.convex.names import ABLATIONS, OURS, TO
from trainopt.convex.protocol import Protocol
from trainopt.harness.folder import read_folder
from trainopt.harness.outcomes import by_seed, measured
from trainopt.harness.ranking import Ranking, ranking
from trainopt.harness.statistics import (
    SEARCH_LUCK,
    compared,
    counted,
    counts_text,
    t_and_wilcoxon,
)


@dataclass(frozen=True, eq=False)
class Results:
    """A folder of the convex study, with everything that is derived from it.

    Attributes:
        protocol: what was run.
        manifest: run.json.
        runs, trials, solvers, timing: the tables as `run_convex` wrote them.
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
        return cls(protocol, manifest, **tables)

    @property
    def cases(self) -> list[str]:
        """The cases that were run, in the protocol's order."""
        return [case.name for case in self.protocol.cases if case.name in self.manifest["cases"]]

    @cached_property
    def seconds_per_pass(self) -> pd.Series[float]:
        """By (case, optimizer): what a pass over the data takes, gradients and updates."""
        batches = {case.name: case.batch for case in self.protocol.cases}
        passes = {"svrg": 3}
        table = self.timing.assign(
            steps=[
                np.ceil(self.manifest["cases"][case]["n"] / batches[case]) / passes.get(name, 1)
                for case, name in zip(self.timing.case, self.timing.optimizer, strict=True)
            ]
        )
        seconds: pd.Series[float] = table.set_index(["case", "optimizer"]).eval(
            "seconds_per_step * steps"
        )
        return seconds

    def at(self, budget: int) -> pd.DataFrame:
        """Every run with the best setting of that many trials, measured."""
        best = {case: facts["best"] for case, facts in self.manifest["cases"].items()}
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
        return compared(seeds, reference, level, tests, problem="case", value="final")

    def means(self, column: str) -> pd.DataFrame:
        """The mean of a measure over seeds: cases are rows, optimizers columns."""
        table: pd.DataFrame = self.seeds.pivot_table(
            index="case", columns="optimizer", values=column, observed=True
        )
        return table

    def rank(self, column: str) -> Ranking:
        """All tuned optimizers but the ablations, ranked by a measure over the cases."""
        parts = [name for name in ABLATIONS if name not in ("alpha0", "sgd")]
        table = self.means(column).drop(columns=parts, errors="ignore")
        return ranking(table.dropna(axis=1), self.protocol.level)

    def costs(self, column: str) -> pd.DataFrame:
        """What optimizers and solvers need to reach the target: the median over runs."""
        tuned = self.main.groupby(["case", "optimizer"], observed=True)[column].median()
        table = pd.concat([tuned, self._solver_costs(column)]).unstack("optimizer")
        # A solver that can't take a case hasn't solved it.
        costs: pd.DataFrame = table.fillna(np.inf)
        return costs

    def _solver_costs(self, column: str) -> pd.Series[float]:
        x = {"passes_to": "passes", "seconds_to": "seconds"}[column]
        starts = self.runs[self.runs.passes == 0].groupby("case", observed=True)
        start = starts.suboptimality.first()
        rows = self.solvers.merge(start.rename("start"), left_on="case", right_index=True)
        solved = rows[rows.suboptimality <= self.protocol.profile_target * rows.start]
        first = solved.groupby(["case", "optimizer", "seed"])[x].min()
        costs: pd.Series[float] = first.groupby(level=["case", "optimizer"]).median()
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

    @property
    def ours(self) -> list[str]:
        """The Trainable Optimizers that were run."""
        return [name for name in OURS if name in set(self.runs.optimizer)]

    @property
    def references(self) -> tuple[str, ...]:
        """What all are compared with."""
        return (self.protocol.reference, "adam-constant", self.protocol.baseline)

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
                seeds = seeds[seeds.case.isin(cases)]
                # Counts come from tests: of the intervals any do.
                found = self._compare(seeds, protocol.reference, resamples=2)
                counts = counted(found).reset_index()
                finals = seeds.groupby("optimizer", observed=True).final.mean()
                counts["final"] = counts.optimizer.map(finals)
                pieces.append(counts.assign(cases=title, budget=budget))
        result: pd.DataFrame = pd.concat(pieces, ignore_index=True)
        return result

    def search_spread(self) -> pd.DataFrame:
        """How far independent searches end apart: standard deviation in decades, by optimizer.

        Columns: median and largest over the cases that were searched more than once.
        """
        means = self.main.groupby(["case", "optimizer", "search"], observed=True).final.mean()
        spread = means.replace(np.inf, np.nan).groupby(level=[0, 1], observed=True).std().dropna()
        by_optimizer = spread.groupby(level="optimizer", observed=True)
        table: pd.DataFrame = by_optimizer.agg(["median", "max"]).sort_values("median")
        return table


def headline(results: Results) -> list[str]:
    """What was found, in sentences whose numbers come from the tables."""
    adam, constant, baseline = (results.against(name) for name in results.references)
    titles = {"full": "Full-TO", "diagonal": "Diagonal-TO", "rankone": "RankOne-TO"}
    cases = len(results.cases)
    sentences = []
    for name in TO:
        parts = []
        for table, what in (
            (adam, "ADAM with the same decays"),
            (constant, "ADAM at a constant rate"),
            (baseline, "α = 0 (momentum)"),
        ):
            count = counted(table[table.optimizer == name]).iloc[0]
            words = counts_text(count, "{:.0f} wins, {:.0f} ties, {:.0f} losses")
            parts.append(f"{words} against {what}")
        sentences.append(f"{titles[name]}, {cases} cases: " + "; ".join(parts) + ".")
    sentences.append(f"Of all these differences: {SEARCH_LUCK}")
    return sentences
