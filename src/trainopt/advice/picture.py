"""The one picture of an advice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .candidates import CANDIDATES, memory

if TYPE_CHECKING:
    from .report import Advice

_BLUE, _GREY = "#0072B2", "#999999"


def draw(advice: Advice, path: Path) -> None:
    """Scores of the linear models, and what the optimizers' state takes."""
    from matplotlib.figure import Figure

    seen = advice.measurements
    figure = Figure(figsize=(10.0, 4.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    forms = list(seen.scores)
    left.barh(forms, [max(-1.0, score) for score in seen.scores.values()], color=_BLUE)
    left.axvline(1 / (1 + seen.noise.ratio), color="black", linestyle="--", linewidth=1)
    left.axvline(0, color="black", linewidth=0.8)
    left.set(
        title="How well A·w + b predicts the next gradient",
        xlabel="part of ‖g‖² explained; dashed: all but the noise",
        ylabel="form of A",
    )
    left.invert_yaxis()
    names = sorted(CANDIDATES, key=lambda name: memory(name, seen.weights))
    right.barh(
        [CANDIDATES[name].title for name in names],
        [memory(name, seen.weights) for name in names],
        color=[_BLUE if name == advice.optimizer else _GREY for name in names],
    )
    right.set(title="State, recommended in blue", xlabel="bytes in float32", xscale="log")
    right.invert_yaxis()
    figure.suptitle(f"Take {advice.title}", parse_math=False)
    figure.savefig(path)
