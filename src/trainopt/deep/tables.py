"""The tables of the deep study, out of its runs: what the pictures and the page show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from trainopt.deep.protocol import Protocol
from trainopt.harness.folder import read_folder
from trainopt.harness.names import NORMALISED
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.outcomes import first_reached
from trainopt.harness.palette import TITLES
from trainopt.harness.statistics import (
    SEARCH_LUCK,
    T_ALONE,
    compared,
    counted,
    counts_words,
    half_width,
)

ALIGNED = ("estimator_error", "estimator_cos", "gradient_error", "gradient_cos")


@dataclass(frozen=True, eq=False)
class Results:
    """A folder of the deep study, with everything that is derived from it.

    Attributes:
        protocol: what was run.
        manifest: run.json.
        runs, trials: the tables as the run loop wrote them.
    """

    protocol: Protocol
    manifest: dict[str, Any]
    runs: pd.DataFrame
    trials: pd.DataFrame

    @classmethod
    def load(cls, folder: Path, protocol: Protocol) -> Results:
        """Read the folder.

        Raises:
            InputError: something is missing, or it is of another protocol.
        """
        names = ("runs", "trials")
        manifest, tables = read_folder(folder, names, protocol.digest, "trainopt study deep")
        return cls(protocol, manifest, **tables)

    @property
    def tasks(self) -> list[str]:
        """The tasks with at least one finished optimizer, in the protocol's order."""
        there = set(self.runs.problem)
        return [name for name in self.protocol.tasks if name in there]

    def title(self, task: str) -> str:
        """What a task is called."""
        title: str = self.manifest["problems"][task]["title"]
        return title

    @property
    def finished(self) -> list[str]:
        """Those of which every optimizer is finished."""
        there = self.runs.groupby("problem").optimizer.nunique()
        return [
            b.problem for b in self.protocol.budgets if there.get(b.problem, 0) == len(b.optimizers)
        ]

    def ranks(self) -> pd.Series[float]:
        """The mean rank of every optimizer by its final loss, over the tasks that are finished."""
        table = self.final.pivot(index="optimizer", columns="problem", values="val_loss")
        ranks: pd.Series[float] = table[self.finished].rank().mean(axis=1).sort_values()
        return ranks

    @cached_property
    def last(self) -> pd.DataFrame:
        """The last row of every run."""
        table: pd.DataFrame = self.runs.loc[
            self.runs.groupby(["problem", "optimizer", "seed"]).step.idxmax()
        ]
        return table

    def against(self, reference: str) -> pd.DataFrame:
        """Every optimizer against one, task by task."""
        if reference not in self._against:
            self._against[reference] = self._compare(self.last, reference)
        return self._against[reference]

    @cached_property
    def _against(self) -> dict[str, pd.DataFrame]:
        return {}

    def _compare(self, ends: pd.DataFrame, reference: str) -> pd.DataFrame:
        level = self.protocol.level
        return compared(ends, reference, level, T_ALONE, value="val_loss")

    @cached_property
    def on_estimate(self) -> pd.DataFrame:
        """Every optimizer that steps along Ĝ against itself on g, task by task."""
        return self._paired({name: entry.plain for name, entry in OPTIMIZERS.items()})

    @cached_property
    def learned(self) -> pd.DataFrame:
        """Every optimizer that learns A against itself with α = 0, task by task."""
        return self._paired({name: entry.without_A for name, entry in OPTIMIZERS.items()})

    @cached_property
    def normalised(self) -> pd.DataFrame:
        """Every variant with the rule `Normalised` against itself at the paper's rate."""
        return self._paired(dict(NORMALISED))

    def _paired(self, references: dict[str, str | None]) -> pd.DataFrame:
        pieces = [self._compare(self.last[:0], self.protocol.reference).assign(reference="")]
        for name, reference in references.items():
            if reference is not None:
                pair = self.last[self.last.optimizer.isin([name, reference])]
                found = self._compare(pair, reference)
                if len(found):
                    pieces.append(found.assign(reference=reference))
        table: pd.DataFrame = pd.concat(pieces[1:] or pieces, ignore_index=True)
        return table

    @cached_property
    def final(self) -> pd.DataFrame:
        """What every optimizer ended with: one row per task and optimizer, the lowest loss first.

        Columns: seeds, diverged, val_loss (mean over seeds) and half_width (of its 95 % interval),
        best_loss (mean of the lowest of each run), early_loss (at the first mark after a quarter of
        the steps), val_accuracy, steps_to and seconds_to (the
        reference's mean final loss: median over seeds of the first mark at or below it; inf where
        most runs never are), ms_per_step, state_bytes, the four columns of alignment (means over
        probes and seeds) and settings (JSON).
        """
        chosen = self.trials.loc[self.trials.groupby(["problem", "optimizer"]).score.idxmin()]
        settings = chosen.set_index(["problem", "optimizer"]).settings
        rows = []
        for task in self.tasks:
            runs = self.runs[self.runs.problem == task]
            finals = self.last[self.last.problem == task]
            early = runs.step[runs.step >= runs.step.max() / 4].min()
            target = finals[finals.optimizer == self.protocol.reference].val_loss.mean()
            for name, group in runs.groupby("optimizer"):
                ends = finals[finals.optimizer == name]
                by_seed = [run.sort_values("step") for _, run in group.groupby("seed")]
                rows.append(
                    {
                        "problem": task,
                        "optimizer": name,
                        "seeds": len(ends),
                        "diverged": int((ends.val_loss == math.inf).sum()),
                        "val_loss": ends.val_loss.mean(),
                        "half_width": half_width(ends.val_loss.tolist()),
                        "best_loss": group.groupby("seed").val_loss.min().mean(),
                        "early_loss": group[group.step == early].val_loss.mean(),
                        "val_accuracy": ends.val_accuracy.mean(),
                        "steps_to": _reached(by_seed, "step", target),
                        "seconds_to": _reached(by_seed, "seconds", target),
                        "ms_per_step": 1000 * (ends.seconds / ends.step).mean(),
                        "state_bytes": int(ends.state_bytes.max()),
                        **group[list(ALIGNED)].mean(),
                        "settings": settings[(task, name)],
                    }
                )
        order = {task: i for i, task in enumerate(self.tasks)}
        table = pd.DataFrame(rows)
        table = table.assign(order=table.problem.map(order)).sort_values(["order", "val_loss"])
        ordered: pd.DataFrame = table.drop(columns="order").reset_index(drop=True)
        return ordered


def headline(results: Results) -> list[str]:
    """What was found, in sentences whose numbers come from the tables."""
    protocol = results.protocol
    sentences = []
    against = results.against(protocol.reference).assign(reference=protocol.reference)
    own = against[against.optimizer.isin(["diagonal", "rankone"])]
    for table in (own, results.learned, results.on_estimate, results.normalised):
        for optimizer, group in table.groupby("optimizer", sort=False) if len(table) else ():
            lower = int((group.difference < 0).sum())
            sentences.append(
                f"{TITLES[str(optimizer)]}: "
                f"{counts_words(counted(group).iloc[0])} against "
                f"{TITLES[group.reference.iloc[0]]}; the mean loss is lower in {lower} of "
                f"{len(group)} tasks."
            )
    sentences.append(
        f"With {protocol.seeds} seeds only differences well beyond the spread of the seeds can be "
        "told apart: a tie means that this study can't tell, not that there is no difference."
    )
    sentences.append(f"Of all these differences: {SEARCH_LUCK}")
    return sentences


def _reached(runs: list[pd.DataFrame], column: str, target: float) -> float:
    reached = [
        first_reached(run[column].to_numpy(float), run.val_loss.to_numpy(float), target)
        for run in runs
    ]
    return float(pd.Series(reached).median())
