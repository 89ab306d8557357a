"""SecantTO walks the path of a NumPy reference that was written from its description."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from secant_common import Problem, new, take
from secant_reference import Reference


def compare(problem, passes, chunks, reorder=False, **settings):
    w, sampler, optimizer = new(problem, chunks=chunks, **settings)
    plan = sampler.plan
    edges = [0, *plan.ends]
    sizes = [plan.rows[a:b] for a, b in pairwise(edges)]
    settings = {"lr": 0.3, "pairs": max(10, 3 * plan.chunks), **settings}
    reference = Reference(np.zeros(problem.d), sizes, **settings)
    for _ in range(passes):
        batches = list(sampler)

        def gradient(k, i, point, batches=batches):
            return problem.gradient(torch.from_numpy(point), batches[edges[k] + i]).numpy()

        reference.run_pass(gradient)
        for rows in batches:
            take(problem, w, optimizer, rows)
        yield w.detach().numpy(), optimizer, reference


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
@pytest.mark.parametrize("chunks", [1, 2, 4, 5])
def test_the_path_is_that_of_the_reference(kind, chunks):
    problem = Problem(kind)
    moved = 0
    for w, optimizer, reference in compare(problem, 9, chunks, pairs=2 * chunks + 1):
        np.testing.assert_allclose(w, reference.shown, rtol=1e-6, atol=1e-8)
        moved += reference.secant
        if reference.secant:
            estimate = optimizer.estimate(optimizer.param_groups[0]["params"][0])
            np.testing.assert_allclose(estimate.numpy(), reference.estimate, rtol=1e-5, atol=1e-8)
    assert moved == 8


def test_it_moves_less_often_while_nothing_is_gained():
    """An ill-conditioned problem with too few pairs, on which the moves are halved and doubled."""
    problem = Problem("logistic", n=40, d=8, l2=1e-4, seed=3)
    seen = set()
    for w, _, reference in compare(problem, 14, 4, pairs=2, patience=1, scale=0.2, first=1):
        np.testing.assert_allclose(w, reference.shown, rtol=1e-5, atol=1e-7)
        seen.add(reference.moves)
    assert {1, 2, 4} <= seen
