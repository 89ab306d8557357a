"""A soak of seconds: see soak.py, and `make soak` for one of hours."""

import pytest
from soak import DTYPES, LEARNERS, RULES, soak

EVERY = [
    *((variant, rule, dtype) for variant in LEARNERS for rule in RULES for dtype in DTYPES),
    *(("secant", "-", dtype) for dtype in DTYPES),
]
ACTIONS = ["reset", "skip", "warn", "raise"]


@pytest.mark.parametrize("number", range(len(EVERY)), ids=map("-".join, EVERY))
def test_weights_and_state_stay_finite(number):
    result = soak(*EVERY[number], ACTIONS[(number + number // 4) % 4], steps=150, seed=number)
    assert result["steps"] == 150


def test_without_a_guard_they_do_not():
    with pytest.raises(AssertionError, match="aren't finite"):
        soak("diagonal", "gradient", "float32", None, steps=150)
