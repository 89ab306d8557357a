"""The facts of a case against closed forms."""

import numpy as np
import pytest

from trainopt.convex import conditioning as module
from trainopt.convex.conditioning import spectrum
from trainopt.convex.optimum import optimum
from trainopt.convex.problems import build


def test_the_spectrum_of_ridge_is_that_of_its_gram_matrix():
    problem = build("diabetes-ridge", l2=0.02)
    x = problem.dataset.x_train
    values = np.linalg.eigvalsh(x.T @ x / len(x)) + 0.02
    low, high = spectrum(problem, optimum(problem).weights)
    assert low == pytest.approx(values[0])
    assert high == pytest.approx(values[-1])


def test_the_spectrum_of_many_weights_is_that_of_few(monkeypatch):
    problem = build("wine-softmax", l2=0.02)
    weights = optimum(problem).weights
    dense = spectrum(problem, weights)
    monkeypatch.setattr(module, "_DENSE", 0)
    assert spectrum(problem, weights) == pytest.approx(dense)
    assert dense[0] == pytest.approx(0.02)  # softmax's own Hessian has a null space
