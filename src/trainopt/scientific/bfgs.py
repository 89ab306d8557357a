"""Self-scaled BFGS with a dense inverse Hessian, a strong rival on small physics-informed nets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import line_search

Vector = NDArray[np.float64]


class Evaluated:
    """A function whose value and gradient at the last point are remembered."""

    def __init__(self, function: Callable[[Vector], tuple[float, Vector]]) -> None:
        self._function = function
        self._point: Vector | None = None
        self._result: tuple[float, Vector] = (np.nan, np.empty(0))

    def __call__(self, point: Vector) -> tuple[float, Vector]:
        """The value and the gradient."""
        if self._point is None or not np.array_equal(self._point, point):
            self._point, self._result = point.copy(), self._function(point)
        return self._result

    def value(self, point: Vector) -> float:
        """The value alone."""
        return self(point)[0]

    def gradient(self, point: Vector) -> Vector:
        """The gradient alone."""
        return self(point)[1]


def self_scaled_bfgs(
    function: Callable[[Vector], tuple[float, Vector]], w: Vector
) -> Iterator[Vector]:
    """Minimise a smooth function by strong Wolfe steps: O(d²) memory, and work in each step.

    BFGS, whose inverse Hessian H = B⁻¹ is divided by min(1, yᵀs / sᵀBs) before each update, as
    Urbán, Stefanou and Pons (2025, arXiv 2405.04230) recommend for physics-informed networks. Where
    no step is found, the next one starts anew from steepest descent.

    Args:
        function: of w, its value and gradient.
        w: the first point, (d,).

    Yields:
        The point after each step, for ever.
    """
    at = Evaluated(function)
    value, gradient = at(w)
    inverse: NDArray[np.float64] | None = None
    before: float | None = None
    while True:
        step = -gradient if inverse is None else -inverse @ gradient
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no step was found
            rate = line_search(at.value, at.gradient, w, step, gradient, value, before)[0]
        if rate is None:
            inverse = before = None
            yield w
            continue
        s = rate * step
        along = -rate * float(gradient @ s)  # sᵀBs, as Bs = −rate · gradient
        w, before = w + s, value
        value, after = at(w)
        y, gradient = after - gradient, after
        product = float(y @ s)
        if product > 0:
            if inverse is None:
                inverse, along = np.eye(len(w)) * (product / float(y @ y)), 0.0
            update(inverse, s, y, min(1.0, product / along) if along else 1.0)
        yield w


def update(inverse: NDArray[np.float64], s: Vector, y: Vector, divisor: float) -> None:
    """Divide an inverse Hessian, and put the pair s, y into it by the rule of BFGS; in place."""
    inverse /= divisor
    product, turned = float(y @ s), inverse @ y
    inverse += np.outer((1 + float(y @ turned) / product) / product * s - turned / product, s)
    inverse -= np.outer(s / product, turned)
