"""What mini-batch gradients and products with the Hessian tell: pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """How much of a mini-batch's gradient is noise.

    Attributes:
        ratio: E‖g − ∇F‖² / ‖∇F‖² of a mini-batch; inf where no signal is seen above the noise.
        scale: the same of a single row: the rows of a mini-batch whose noise is as large as its
            signal (tr Σ / ‖∇F‖²; McCandlish et al., arXiv 1812.06162).
    """

    ratio: float
    scale: float


def noise(gradients: Tensor, rows: int) -> Noise:
    """The gradient noise, from mini-batches of equal size at one point.

    Unbiased estimates of the trace and of ‖∇F‖² are divided. O(m d).

    Args:
        gradients: (m, d), m ≥ 2.
        rows: of a mini-batch.
    """
    m = len(gradients)
    wide = gradients.double()
    mean = wide.mean(0)
    variance = (wide - mean).square().sum().item() / (m - 1)
    signal = mean.square().sum().item() - variance / m
    if variance == 0:
        return Noise(0.0, 0.0)
    ratio = variance / signal if signal > 0 else float("inf")
    return Noise(ratio, ratio * rows)


def correlation(gradients: Tensor) -> float:
    """The mean squared correlation of two coordinates of the gradient, over all pairs.

    Without the 1/(m − 1) that independent coordinates have by chance: about 0 for those, 1 where
    all move together. Coordinates that don't vary are left out; NaN where fewer than two vary.
    O(m² d): the pairs are never formed, as Σᵢⱼ rᵢⱼ² = ‖Z Zᵀ‖² for standardised columns Z.

    Args:
        gradients: (m, d) at one point, m ≥ 3.
    """
    m = len(gradients)
    centred = gradients.double() - gradients.double().mean(0)
    lengths = centred.square().sum(0).sqrt()
    varies = lengths > 1e-12 * lengths.max()
    d = int(varies.sum())
    if d < 2:
        return float("nan")
    z = centred[:, varies] / lengths[varies]
    squared = ((z @ z.T).square().sum().item() - d) / (d * (d - 1))
    chance = 1 / (m - 1)
    return (squared - chance) / (1 - chance)


def spread(gradients: Tensor) -> float:
    """How different the sizes of the coordinates are: the standard deviation of log₁₀ of their rms.

    0 where all are alike; 1 where they spread by a decade. Coordinates that are always 0 are left
    out.

    Args:
        gradients: (m, d).
    """
    sizes = gradients.double().square().mean(0).sqrt()
    sizes = sizes[sizes > 1e-12 * sizes.max()]
    return 0.0 if len(sizes) < 2 else sizes.log10().std().item()


@dataclass(frozen=True)
class Spectrum:
    """The ends of a symmetric matrix's spectrum.

    Attributes:
        low, high: the smallest and largest Ritz value: within the spectrum.
        low_error, high_error: an eigenvalue is no farther from each than this.
    """

    low: float
    high: float
    low_error: float
    high_error: float

    @property
    def negative(self) -> bool:
        """Whether an eigenvalue below 0 was found, beyond its error and float32's."""
        return self.low + self.low_error < -1e-5 * max(abs(self.high), abs(self.low))


def spectrum(product: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Spectrum:
    """The ends of a Hessian's spectrum by Lanczos' method, orthogonalised in full.

    A fixed number of products, which solvers that iterate to a tolerance don't promise. With as
    many steps as weights the ends are exact. O(steps² d), and steps vectors of memory.

    Args:
        product: v to H v, (d,) to (d,).
        start: (d,), not 0.
        steps: ≥ 1.
    """
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, start.numel())):
        image = product(basis[-1])
        diagonal.append(torch.dot(image, basis[-1]).item())
        for _ in range(2):  # the second time for what rounding left
            for v in basis:
                image = image - torch.dot(image, v) * v
        beside.append(image.norm().item())
        # What is left is rounding: the Krylov space is complete.
        if beside[-1] <= 10 * torch.finfo(start.dtype).eps * max(map(abs, diagonal)):
            beside[-1] = 0.0
            break
        basis.append(image / beside[-1])
    k = len(diagonal)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if k > 1:
        off = torch.diag(torch.tensor(beside[: k - 1], dtype=torch.float64), 1)
        small = small + off + off.T
    values, vectors = torch.linalg.eigh(small)
    errors = (beside[k - 1] * vectors[-1]).abs()
    return Spectrum(*(x.item() for x in (values[0], values[-1], errors[0], errors[-1])))


def off_diagonal(product: Callable[[Tensor], Tensor], signs: Tensor) -> float:
    """The part of ‖H‖² that lies off the diagonal, in [0, 1]; NaN for H = 0.

    Hutchinson's estimates, E‖H v‖² = ‖H‖² and E[v∘H v] = diag H for random signs v; the diagonal's
    norm comes from pairs of different probes, which makes it unbiased. Exact where the probes are
    as many as the weights: then unit vectors are taken.

    Args:
        product: v to H v, (d,) to (d,).
        signs: ±1, (m, d), m ≥ 2.
    """
    m, d = signs.shape
    if d <= m:
        hessian = torch.stack([product(v) for v in torch.eye(d).to(signs)]).double()
        total, own = hessian.square().sum().item(), hessian.diagonal().square().sum().item()
    else:
        images = torch.stack([product(v) for v in signs])
        total = images.double().square().sum().item() / m
        diagonals = (images * signs).double()
        summed = diagonals.sum(0).square().sum().item()
        own = (summed - diagonals.square().sum().item()) / (m * (m - 1))
    return float("nan") if total == 0 else min(1.0, max(0.0, 1 - own / total))
