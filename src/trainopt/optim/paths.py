"""The fast ways to a step: by device, form of A and learning rule.

Where there is no entry, a step takes the general way, `rules.learn`, which every form has.
"""

from __future__ import annotations

from typing import Any

from .. import rules
from ..forms import Dense, Diagonal, RankOne, Zero
from ..kernels import cpu, cuda
from ..learning import Gradient, Weights
from .model import Model

ANY = "any"
"""The device of the closed forms, which are plain torch."""

PATHS: dict[tuple[str, type, type], Any] = {
    (ANY, Dense, Gradient): rules.full,
    (ANY, Diagonal, Gradient): rules.diagonal,
    (ANY, RankOne, Gradient): rules.rank_one,
    (ANY, Zero, Gradient): rules.zero,
    ("cpu", Dense, Gradient): cpu.full,
    ("cpu", Diagonal, Gradient): cpu.diagonal,
    ("cpu", RankOne, Gradient): cpu.rank_one,
    ("cuda", Diagonal, Gradient): cuda.diagonal,
    ("cuda", RankOne, Gradient): cuda.rank_one,
}
MODULES = {module.DEVICE: module for module in (cpu, cuda)}


def closed_form(model: Model) -> rules.ClosedForm | None:
    """Return the closed form of a model, or None: `rules.learn` takes the step."""
    found: rules.ClosedForm | None = _path(ANY, model)
    return found


def kernel(device: str, model: Model) -> Any:
    """Return the kernel of a model on a kind of device, or None where there is none."""
    return _path(device, model)


def _path(device: str, model: Model) -> Any:
    if type(model.reading) is not Weights:
        return None
    return PATHS.get((device, type(model.form), type(model.rule)))
