"""Leave one data set out: thresholds are fitted on the others, and the advice is judged on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from trainopt.advice.decision import Thresholds, decide
from trainopt.advice.measurements import Measurements
from trainopt.advice.outcomes import Outcome, Scenario

_INF = float("inf")
OFF = Thresholds(linear_passes=0, lbfgs=0, spread=_INF, matrices=_INF, noise=_INF)
"""Where a fit begins: always SecantTO, never L-BFGS or Muon; a tie leaves it so."""

# What thresholds may become, those that work together at once. SecantTO's on networks can't be
# fitted: no study has run it there.
GRIDS: tuple[dict[str, tuple[float, ...]], ...] = (
    {"linear_passes": (2, 3, 4, 5, 6, 8, 10, 15, 20)},
    {
        "lbfgs": (0.3, 0.5, 0.8, 1.2, 2, 3, 5, 10),
        "spread": (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, _INF),
    },
    {"matrices": (0.25, 0.5, 0.75, 0.9), "noise": (0.1, 0.3, 1.0, 3.0, 10.0, _INF)},
)


@dataclass(frozen=True)
class Judged:
    """A problem in a scenario, with what was measured of it."""

    scenario: Scenario
    outcome: Outcome
    seen: Measurements

    @property
    def family(self) -> str:
        """The problems on the same data, or the same pretrained model: wine-softmax, -raw, …."""
        return self.outcome.problem.split("-", 1)[0]

    def advice(self, bounds: Thresholds) -> str:
        """What the table recommends."""
        return decide(self.seen, exclude=self.scenario.excluded, bounds=bounds)[0]


def judged(
    scenario: Scenario, found: Sequence[Outcome], seen: dict[str, Measurements]
) -> list[Judged]:
    """Put outcomes and measurements together."""
    result = []
    for each in found:
        measured = seen[each.problem]
        if scenario.passes is not None:
            measured = replace(measured, passes=float(scenario.passes))
        result.append(Judged(scenario, each, measured))
    return result


def fitted(cases: Sequence[Judged]) -> Thresholds:
    """The thresholds with the most hits, one group of them after another."""
    best = OFF
    for grid in GRIDS:
        tried = [
            replace(best, **dict(zip(grid, values, strict=True)))
            for values in product(*grid.values())
        ]
        best = max([best, *tried], key=lambda bounds: _hits(cases, bounds))
    return best


def _hits(cases: Sequence[Judged], bounds: Thresholds) -> int:
    return sum(case.outcome.hit(case.advice(bounds)) for case in cases)


def leave_one_out(cases: Sequence[Judged]) -> dict[str, Thresholds]:
    """For each family of problems, the thresholds that all others would choose."""
    return {
        left_out: fitted([case for case in cases if case.family != left_out])
        for left_out in dict.fromkeys(case.family for case in cases)
    }


def nearest(case: Judged, others: Sequence[Judged], names: Sequence[str]) -> str:
    """The best of these optimizers on the problem that is most alike: a rule without a rule.

    Distances are Euclidean over what was measured, each in units of its standard deviation.
    """
    rows = [_features(each.seen) for each in (case, *others)]
    scale = np.std(rows, axis=0)
    table = np.array(rows) / np.where(scale > 0, scale, 1)
    closest = others[int(np.argmin(((table[1:] - table[0]) ** 2).sum(1)))]
    return min(names, key=closest.outcome.of)


def _features(seen: Measurements) -> list[float]:
    ratio = min(seen.noise.ratio, 1e3)
    values = [
        np.log10(seen.weights),
        np.log10(seen.passes),
        np.log10(min(seen.condition, 1e6)),
        np.log10(max(ratio, 1e-3)),
        seen.spread,
        seen.off_diagonal,
        seen.correlation,
        seen.matrices,
        float(seen.linear),
    ]
    return [float(value) if np.isfinite(value) else 0.0 for value in values]
