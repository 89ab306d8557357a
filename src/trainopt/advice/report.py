"""The advice as a reader sees it: verdict, reasons, evidence, and one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..memory import human_bytes
from .candidates import CANDIDATES, memory
from .measurements import Measurements
from .settings import code, settings

_SMALL = 1e10  # multiplications of a Newton step that take about a second
_GOOD = 0.02  # of the gradient's square that A must explain beyond a moving average


@dataclass(frozen=True)
class Advice:
    """Which optimizer to take; `print` shows verdict, reasons and evidence.

    Attributes:
        optimizer: its name, a key of `trainopt.advice.candidates.CANDIDATES`.
        because: why, in words.
        measurements: what was seen.
        name: of the problem; empty for a model of the user's.
        solver: of scikit-learn, for a linear model of a known kind; empty where it isn't known.
    """

    optimizer: str
    because: str
    measurements: Measurements
    name: str = ""
    solver: str = ""

    @property
    def title(self) -> str:
        """The optimizer in words."""
        return CANDIDATES[self.optimizer].title

    @property
    def settings(self) -> dict[str, Any]:
        """What to set, by the names of the constructor."""
        return settings(self.optimizer, self.measurements)

    @property
    def code(self) -> str:
        """The lines that build the optimizer."""
        return code(self.optimizer, self.measurements)

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.evidence())
        table = "\n".join(f"  {name:<{width}}  {value}" for name, value in self.evidence())
        indented = "\n".join(f"    {line}" for line in self.code.splitlines())
        return f"{self.words()}\n\n{indented}\n\n{table}"

    def words(self) -> str:
        """One paragraph, the verdict first."""
        seen = self.measurements
        about = f" for {self.name}" if self.name else ""
        sentences = [f"Take {self.title}{about}: {self.because}."]
        sentences.append(_without_training(seen, self.solver))
        sentences.append(
            f"Its state takes {human_bytes(memory(self.optimizer, seen.weights))}; AdamW's would "
            f"take {human_bytes(memory('adamw', seen.weights))}."
        )
        if "lr" in self.settings:
            sentences.append("The rate is where a search may start.")
        if self.optimizer.startswith("secant") and not seen.linear:
            sentences.append("For networks this is an attempt: no study of ours confirms it yet.")
        sentences.append(_on_repeats(seen))
        sentences.append(_on_models(seen))
        return " ".join(each for each in sentences if each)

    def evidence(self) -> list[tuple[str, str]]:
        """What was measured, in words and numbers."""
        seen, ends = self.measurements, self.measurements.spectrum
        rows = "rows not known" if seen.rows is None else f"{seen.rows:,} rows"
        table = [
            ("weights", f"{seen.weights:,}; the model is {'' if seen.linear else 'not '}linear"),
            ("data", f"{rows}, {seen.batch} in a mini-batch, {seen.passes:.3g} passes"),
            ("same rows, twice", f"gradients differ by {seen.repeats.twice:.1e} of their norm"),
            ("a batch and its halves", f"gradients differ by {seen.repeats.halves:.1e}"),
            (
                "gradient noise",
                f"{seen.noise.ratio:.2g} times the signal; as large as it at "
                f"{seen.noise.scale:.3g} rows",
            ),
            ("correlation of coordinates", f"r² = {seen.correlation:.3f}, mean over pairs"),
            ("sizes of coordinates", f"spread by {seen.spread:.2f} decades"),
            (
                "Hessian's spectrum",
                f"{ends.low:.3g} (± {ends.low_error:.1g}) to {ends.high:.3g} "
                f"(± {ends.high_error:.1g}); negative curvature "
                f"{'found' if ends.negative else 'not found'}",
            ),
            ("Hessian off the diagonal", f"{seen.off_diagonal:.0%} of ‖H‖²"),
        ]
        for form, score in seen.scores.items():
            table.append((f"next gradient, A {form}", _score(score)))
        table.append(
            (
                "spent",
                f"{seen.spent:.0f} of {seen.budget} mini-batch gradients, {seen.seconds:.1f} s",
            )
        )
        return table

    def save(self, folder: Path) -> None:
        """Write advice.txt and advice.png; the folder is made where there is none."""
        from .picture import draw

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "advice.txt").write_text(f"{self}\n", encoding="utf-8")
        draw(self, folder / "advice.png")


def _score(score: float) -> str:
    if math.isnan(score):
        return "the run diverged"
    return "the model diverged" if score < -1 else f"{score:+.2f} of its square explained"


def _without_training(seen: Measurements, solver: str) -> str:
    """For a linear model that a solver takes to its optimum in seconds: this one, or some."""
    if not seen.linear or seen.rows is None or seen.rows * seen.weights**2 > _SMALL:
        return ""
    named = (
        f"scikit-learn's {solver}" if solver else "a solver for linear models, as scikit-learn's,"
    )
    return (
        f"If no training loop is needed, {named} takes this problem to its optimum in seconds: "
        f"{seen.weights:,} weights on {seen.rows:,} rows are small."
    )


def _on_repeats(seen: Measurements) -> str:
    same = seen.repeats
    if same.exact:
        return "" if same.order is not False else "The rows repeat, but the loader shuffles them."
    if same.twice > same.tolerance:
        why = "the same mini-batch gave two gradients (dropout?)"
    elif same.halves > same.tolerance:
        why = "a row's gradient depends on the rows beside it (batch norm?)"
    else:
        why = "the data set gave other numbers at the second reading (augmentation?)"
    return f"SecantTO and L-BFGS are out: {why}."


def _on_models(seen: Measurements) -> str:
    scores = {name: x for name, x in seen.scores.items() if math.isfinite(x)}
    if "none" not in scores or len(scores) < 2:
        return ""
    best = max((name for name in scores if name != "none"), key=scores.__getitem__)
    gain = scores[best] - scores["none"]
    if gain < _GOOD:
        return "No learned A predicts the next gradient better than a moving average does."
    return f"Of the learned A, {best} predicts the next gradient best, by {gain:.2f}."
