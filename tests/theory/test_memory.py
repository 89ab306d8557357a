"""Memory: the counter on known tensors, and the formulas against what is measured."""

import pytest
import torch

from trainopt.harness.memory_use import PeakBytes
from trainopt.theory.memory import FORMULAS, measure


def test_the_counter_counts_what_lives():
    x = torch.ones(100)
    with PeakBytes() as counter:
        y = x + 1  # 400 bytes
        z = y * 2  # and 400 more
        del y
        x.add_(z)  # nothing new
        z.view(10, 10)
    assert counter.peak == 800
    assert counter.live == 400


@pytest.mark.parametrize("optimizer", FORMULAS)
@pytest.mark.parametrize("d", [500, 1003])
def test_measured_and_formula_agree(optimizer, d):
    row = measure(optimizer, d)
    counter = 4 if optimizer == "adam" else 0  # its step count
    assert row["state"] == row["state_formula"] + counter
    if row["memory"] is not None:
        assert row["memory"] == row["state"]
    # Besides vectors, a step makes some scalars.
    assert row["peak_formula"] <= row["peak"] <= row["peak_formula"] + 200


def test_the_papers_size_and_what_does_not_fit():
    row = measure("diagonal", 10_010)
    assert row["state"] == 80_080
    assert FORMULAS["full"][0](10_010) * 4 == 400_840_440
    huge = measure("full", 10**7)
    assert huge["state"] is None
    assert huge["state_formula"] == 4 * (10**14 + 10**7)
