"""Self-scaled BFGS against the textbook's formula and functions with known minima."""

from itertools import islice, pairwise

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from trainopt.scientific.bfgs import self_scaled_bfgs, update


@pytest.mark.parametrize("divisor", [1.0, 0.25])
def test_an_update_is_the_textbooks(divisor):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    inverse, s = root @ root.T, rng.normal(size=5)
    y = s + 0.1 * rng.normal(size=5)
    rho, one = 1 / (y @ s), np.eye(5)
    left = one - rho * np.outer(s, y)
    expected = left @ (inverse / divisor) @ left.T + rho * np.outer(s, s)
    update(inverse, s, y, divisor)
    np.testing.assert_allclose(inverse, expected, rtol=1e-10)
    np.testing.assert_allclose(inverse @ y, s, rtol=1e-10)


def test_it_reaches_the_minimum():
    evaluated = []

    def function(w):
        evaluated.append(w)
        return rosen(w), rosen_der(w)

    points = list(islice(self_scaled_bfgs(function, np.full(6, -1.2)), 80))
    np.testing.assert_allclose(points[-1], 1.0, atol=1e-6)
    assert not any(np.array_equal(a, b) for a, b in pairwise(evaluated))


def test_it_goes_on_where_no_step_is_found():
    def function(w):  # the gradient points uphill
        return float(w @ w), -2 * w

    points = list(islice(self_scaled_bfgs(function, np.ones(2)), 3))
    assert all(np.array_equal(w, np.ones(2)) for w in points)
