"""What the committed studies found: how far each optimizer is from the best, problem by problem."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trainopt.convex.secant import CHUNKED, SECANTS
from trainopt.convex.secant_runs import STARTS, TUNED

# What an optimizer that can be recommended is called in the studies' tables.
CONVEX = {
    "secant": "secant-8",
    "secant-small": "secant-4",
    "lbfgs": "lbfgs",
    "schedulefree-sgd": "schedulefree-sgd",
    "schedulefree-adamw": "schedulefree-adamw",
    "adamw": "adamw",
    "diagonal": "diagonal",
    "rankone": "rankone",
    "full": "full",
}
DEEP = {
    "schedulefree-adamw": "schedulefree-adamw",
    "muon": "muon",
    "adamw": "adamw",
    "diagonal": "diagonal",
    "rankone": "rankone",
}
HALF_A_DECADE, FIVE_PERCENT = 0.5, 0.05
_FLOOR = 1e-14  # of F − F*, where float32 gradients end
_SECANT = {*STARTS, *(variant.name for variant in SECANTS)}
_CHUNKED = {variant.name for variant in CHUNKED}
_EXACT_ROWS = {"lbfgs", "sag", "saga", "svrg"}


@dataclass(frozen=True)
class Scenario:
    """What may be taken.

    Attributes:
        name: in tables.
        title: in words.
        excluded: names for `decide`.
        left_out: names of the studies, which the best isn't among either.
        passes: after which runs are read; None: at their end.
    """

    name: str
    title: str
    excluded: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    passes: int | None = None


_NO_SECANT = frozenset({"secant", "secant-small"})
SCENARIOS = (
    Scenario("all", "everything"),
    Scenario("no-secant", "without SecantTO", _NO_SECANT, frozenset(_SECANT | _CHUNKED)),
    Scenario(
        "stochastic",
        "only what takes random rows",
        _NO_SECANT | {"lbfgs"},
        frozenset(_SECANT | _CHUNKED | _EXACT_ROWS),
    ),
    *(
        Scenario(f"after-{n}", f"everything, after {n} pass{'es' * (n > 1)}", passes=n)
        for n in (1, 2, 3, 4, 5, 7)
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How a problem ended in a scenario.

    Attributes:
        problem: its name.
        deep: whether it is a deep task.
        regret: how far each optimizer of the studies is above the best: decades of F − F*, or the
            relative validation loss. inf where it diverged.
    """

    problem: str
    deep: bool
    regret: dict[str, float]

    def of(self, name: str) -> float:
        """The regret of an optimizer that can be recommended; inf where it wasn't run."""
        return self.regret.get((DEEP if self.deep else CONVEX).get(name, ""), np.inf)

    def hit(self, name: str) -> bool:
        """Whether it is as good as the best: within half a decade, or 5 %."""
        return self.of(name) <= (FIVE_PERCENT if self.deep else HALF_A_DECADE)

    @property
    def best(self) -> str:
        """The best, by the studies' name."""
        return min(self.regret, key=self.regret.__getitem__)


def convex_runs(results: Path) -> pd.DataFrame:
    """Median log₁₀(F − F*) over seeds and searches: problem, optimizer, passes, value.

    SecantTO counts at its defaults, which the advice gives; tuned it isn't another optimizer.
    """
    runs = pd.read_parquet(results / "convex" / "runs.parquet")
    runs = runs[runs.optimizer != TUNED]
    main = runs[runs.budget == _main_budget(runs)]
    others = [
        pd.read_parquet(results / name)
        for name in ("convex/solvers.parquet", "secant/runs.parquet")
    ]
    columns = ["problem", "optimizer", "passes", "suboptimality"]
    table = pd.concat(
        [each[columns].astype({"problem": str, "optimizer": str}) for each in (main, *others)]
    )
    table["value"] = np.log10(table.suboptimality.fillna(np.inf).clip(lower=_FLOOR))
    found: pd.DataFrame = table.groupby(["problem", "optimizer", "passes"], as_index=False).agg(
        value=("value", "median")
    )
    return found


def _main_budget(runs: pd.DataFrame) -> int:
    """The number of trials that all cases have."""
    counts = runs.groupby("budget").problem.nunique()
    return int(counts[counts == counts.max()].index.max())


def outcomes(results: Path, scenario: Scenario) -> list[Outcome]:
    """What every problem's runs say in a scenario; deep tasks at their end only."""
    runs = _without(convex_runs(results), scenario.left_out)
    if scenario.passes is None:
        last = runs.groupby("problem").passes.transform("max")
        runs = runs[runs.passes == last]
    else:
        runs = runs[runs.passes == scenario.passes]
    found = []
    for case, group in runs.groupby("problem"):
        values = group.set_index("optimizer").value
        found.append(Outcome(str(case), False, (values - values.min()).to_dict()))
    if scenario.passes is None:
        table = _without(pd.read_csv(results / "deep" / "final.csv"), scenario.left_out)
        for task, group in table.groupby("problem"):
            values = group.set_index("optimizer").val_loss.fillna(np.inf)
            found.append(Outcome(str(task), True, (values / values.min() - 1).to_dict()))
    return found


def _without(table: pd.DataFrame, left_out: Collection[str]) -> pd.DataFrame:
    kept: pd.DataFrame = table[~table.optimizer.isin(left_out)]
    return kept
