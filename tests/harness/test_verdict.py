"""Sentences from counts worked out by hand."""

import pandas as pd
import pytest

from trainopt.harness.verdict import against, best_of, learning, standing

WORDS = {"w": "win", "t": "tie", "l": "loss", "?": "too few seeds"}


def comparison(**verdicts):
    """A row per letter: a win is 1 below the reference, a loss 1 above."""
    rows = [
        {"optimizer": name, "verdict": WORDS[v], "difference": {"w": -1, "l": 1}.get(v, 0)}
        for name, letters in verdicts.items()
        for v in letters
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((3, 1, 1), "better than"),
        ((1, 1, 3), "worse than"),
        ((2, 1, 2), "no better than"),
        ((1, 5, 0), "mostly level with"),
        ((0, 0, 0), "with too few seeds to be told from"),
    ],
)
def test_standing(counts, words):
    assert standing(pd.Series(counts, index=["win", "tie", "loss"])) == words


def test_one_against_others():
    adam, constant = comparison(full="wll"), comparison(full="wwt")
    assert against("full", {"a": ("ADAM", adam), "b": ("the old ADAM", constant)}, ", tuned,") == (
        "Full-TO, tuned, is worse than ADAM (1 win, 0 ties, 2 losses) and better than the old "
        "ADAM (2 wins, 1 tie, 0 losses)."
    )


def test_the_best_has_the_most_wins_less_losses():
    found = comparison(full="wwlll", rankone="wtttt", sgd="www")
    assert best_of(["full", "rankone"], found) == "rankone"


def test_what_learning_gains():
    nothing = comparison(full="tt", diagonal="tl")
    assert learning(["full", "diagonal"], nothing, "α = 0") == (
        "Learning A gains nothing over α = 0 (Full-TO: 0 wins, 2 ties, 0 losses; Diagonal-TO: 0 "
        "wins, 1 tie, 1 loss)."
    )
    helps = learning(["full", "diagonal"], comparison(full="ww", diagonal="tt"), "α = 0")
    assert helps.startswith("Learning A makes Full-TO better than α = 0 (")
    few = learning(["full"], comparison(full="??"), "α = 0")
    assert few == "There are too few seeds to tell whether learning A gains over α = 0."
