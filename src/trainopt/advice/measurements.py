"""All that is measured of an objective, within a budget of mini-batch gradients."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from .measures import Noise, Spectrum, correlation, noise, off_diagonal, spectrum, spread
from .objective import PRODUCT, Objective, rows_of
from .prediction import predictions
from .repeats import Repeats, repeats

LEAST = 40  # mini-batch gradients
_SAMPLED = 1_000_000  # coordinates of which gradients are compared, where there are more
_RUN_FROM = 1e-8


@dataclass(frozen=True)
class Measurements:
    """What the decision sees.

    Attributes:
        weights: d.
        rows: of a pass over the data; None: not known.
        batch: rows of a mini-batch.
        passes: that the user means to make.
        linear: whether the model is affine in its weights.
        matrices: the part of the weights in hidden matrices, those that Muon takes.
        weight_decay: λ of an L2 term of the objective.
        repeats: whether rows have the same gradient at every visit.
        noise: of a mini-batch's gradient at the start.
        correlation: of the gradient's coordinates, squared, mean over pairs.
        spread: of the coordinates' sizes, in decades.
        spectrum: the ends of the Hessian's, on one mini-batch at the start.
        off_diagonal: the part of ‖H‖² off the diagonal.
        scores: how well each form of A predicts the next gradient.
        loss: of the first mini-batch at the start.
        descended: the part of it that the probe run took away.
        spent, budget: mini-batch gradients.
        seconds: of this process's CPU time.
    """

    weights: int
    rows: int | None
    batch: int
    passes: float
    linear: bool
    matrices: float
    weight_decay: float
    repeats: Repeats
    noise: Noise
    correlation: float
    spread: float
    spectrum: Spectrum
    off_diagonal: float
    scores: dict[str, float]
    loss: float
    descended: float
    spent: float
    budget: int
    seconds: float

    @property
    def steps(self) -> float:
        """Mini-batches in a pass; inf where the rows aren't known."""
        return float("inf") if self.rows is None else self.rows / self.batch

    @property
    def condition(self) -> float:
        """λ_max / λ_min as far as it can be seen; inf where no positive lower end was."""
        low = max(self.spectrum.low, self.weight_decay)
        return self.spectrum.high / low if low > 0 else float("inf")


def measure(
    objective: Objective,
    *,
    passes: float,
    rows: int | None,
    linear: bool,
    matrices: float,
    weight_decay: float,
    data: bool | None,
    order: bool | None,
    budget: int,
) -> Measurements:
    """Measure; the weights end elsewhere.

    About a sixth of the budget goes to noise, two fifths to the Hessian and two fifths to the
    probe run.

    Args:
        objective: its mini-batches of another size than the first have no part in the noise.
        passes: see `Measurements`.
        rows: likewise.
        linear: likewise.
        matrices: likewise.
        weight_decay: likewise.
        data: see `Repeats`.
        order: likewise.
        budget: mini-batch gradients, at least `LEAST`.
    """
    start = time.process_time()
    batch = objective.batches[0]
    loss = objective.loss(batch).item()
    same = repeats(objective, data, order)

    equal = [b for b in objective.batches if rows_of(b) == rows_of(batch)]
    picked = _picked(objective.weights)
    taken = equal[: max(4, budget // 6)]
    gradients = torch.stack([objective.gradient(b)[picked] for b in taken])

    products = int(0.4 * budget / PRODUCT)
    generator = torch.Generator().manual_seed(0)
    d = objective.weights
    signs = torch.randint(0, 2, (products, d), generator=generator) * 2 - 1
    product = objective.hessian(batch)
    signs = signs.to(gradients)
    lanczos = -(-3 * products // 5)
    ends = spectrum(product, signs[0], lanczos)
    off = off_diagonal(product, signs[lanczos:])
    del product  # the graph of the gradient

    left = int(budget - objective.spent)
    scores, descended = predictions(objective, left, 1 / max(ends.high, _RUN_FROM))
    several = len(gradients) > 2
    return Measurements(
        weights=d,
        rows=rows,
        batch=rows_of(batch),
        passes=passes,
        linear=linear,
        matrices=matrices,
        weight_decay=weight_decay,
        repeats=same,
        noise=noise(gradients, rows_of(batch)) if len(gradients) > 1 else Noise(0.0, 0.0),
        correlation=correlation(gradients) if several else float("nan"),
        spread=spread(gradients),
        spectrum=ends,
        off_diagonal=off,
        scores=scores,
        loss=loss,
        descended=descended,
        spent=objective.spent,
        budget=budget,
        seconds=time.process_time() - start,
    )


def _picked(weights: int) -> torch.Tensor | slice:
    """The coordinates whose gradients are compared: all, or a random part."""
    if weights <= _SAMPLED:
        return slice(None)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(weights, (_SAMPLED,), generator=generator)
