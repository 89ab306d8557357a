"""The rules that choose how often and how far the weights move, by numbers worked out by hand."""

import math

import pytest

from trainopt.secant.control import Losses, Progress


def run(sizes, chunks=4, patience=2, losses=None):
    progress = Progress(until=1, moves=chunks)
    seen = []
    for size, loss in zip(sizes, losses or [math.nan] * len(sizes), strict=True):
        dropped = progress.end_pass(size, loss, chunks, patience)
        seen.append((progress.moves, dropped))
    return progress, seen


def test_moves_are_halved_while_nothing_is_gained():
    progress, seen = run([5, 6, 6, 6, 6])
    assert seen == [(4, False), (4, False), (2, False), (1, True), (1, False)]
    assert progress.low == 6  # what was low before the pairs were dropped doesn't count
    assert progress.need == 4


def test_moves_are_doubled_when_something_is():
    _, seen = run([5, 6, 6, 4, 3])
    assert [moves for moves, _ in seen] == [4, 4, 2, 4, 4]
    _, seen = run([5, 6, 6, 6, 5, 4, 3, 2, 1])
    assert [moves for moves, _ in seen[3:]] == [1, 1, 1, 1, 2, 4]  # four lows in a row


def test_a_low_of_the_loss_is_a_gain_as_well():
    _, seen = run([5, 6, 7, 8], losses=[1.0, 0.9, 0.8, 0.7])
    assert [moves for moves, _ in seen] == [4, 4, 4, 4]


def test_steps_are_damped_when_even_whole_passes_gain_nothing():
    progress, _ = run([5] * 9, chunks=1)
    assert progress.stuck == 8
    assert progress.damping(2) == 2 + 8 - 4
    assert progress.damping(5) == 1


SHARES = (0.25, 0.75)


@pytest.mark.parametrize(
    ("actual", "predicted", "clipped", "factor"),
    [
        ((-1.0, -1.0), (-1.1, -1.1), True, 1.5**0.5),  # a good model, and a step that was cut
        ((-1.0, -1.0), (-1.1, -1.1), False, 1.0),
        ((-1.0, -1.0), (-1.5, -1.5), True, 1.0),
        ((-1.0, -1.0), (-2.0, -2.0), True, 0.5**0.5),
        ((1.0, 1.0), (0.6, 0.6), True, 0.5**0.5),  # it rose, as foretold
        ((1.0, 1.0), (-0.1, -0.1), True, 0.5**0.5),  # it rose, not foretold
        ((4.0, -1.0), (-1.0, -1.0), True, 0.5**0.5),
        ((-1e-6, 1e-6), (1e-3, 1e-3), True, 1.0),  # below what float32 losses show
        ((math.nan, -1.0), (-2.0, -2.0), True, 1.0),
    ],
)
def test_the_radius_follows_what_the_losses_did(actual, predicted, clipped, factor):
    losses = Losses([1.0, 1.0])
    for chunk, (change, foretold) in enumerate(zip(actual, predicted, strict=True)):
        losses.see(chunk, 1.0 + change, foretold)
    assert losses.resize(SHARES, clipped) == pytest.approx(factor)


def test_the_loss_of_all_rows_is_that_of_the_chunks_by_their_shares():
    losses = Losses([math.nan, math.nan])
    losses.see(0, 2.0, math.nan)
    assert math.isnan(losses.total(SHARES))
    losses.see(1, 4.0, math.nan)
    assert losses.total(SHARES) == 3.5
