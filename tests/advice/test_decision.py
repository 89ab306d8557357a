"""The table of rules on constructed extremes."""

from dataclasses import replace

import pytest

from trainopt.advice.candidates import memory
from trainopt.advice.decision import RULES, Thresholds, decide
from trainopt.advice.measurements import Measurements
from trainopt.advice.measures import Noise, Spectrum
from trainopt.advice.repeats import Repeats
from trainopt.advice.report import Advice

EXACT = Repeats(0.0, 1e-7, True, True, 1e-3)
RANDOM = Repeats(0.8, 0.7, True, True, 1e-3)
LINEAR = Measurements(
    weights=1000,
    rows=5000,
    batch=32,
    passes=30,
    linear=True,
    matrices=0.0,
    weight_decay=1e-3,
    repeats=EXACT,
    noise=Noise(2.0, 64.0),
    correlation=0.01,
    spread=0.2,
    spectrum=Spectrum(1e-3, 1.0, 0.0, 0.0),
    off_diagonal=0.5,
    scores={"none": 0.1, "diagonal": 0.2},
    loss=1.0,
    descended=0.5,
    spent=100.0,
    budget=100,
    seconds=1.0,
)
NETWORK = replace(
    LINEAR, linear=False, weight_decay=0.0, passes=3, spectrum=Spectrum(-1.0, 5.0, 0.1, 0.1)
)

EXTREMES = {
    "a linear model and many passes": (LINEAR, {}, "secant"),
    "a linear model and one pass": (replace(LINEAR, passes=1), {}, "schedulefree-sgd"),
    "the same with features of all sizes": (
        replace(LINEAR, passes=1, spread=2.0),
        {},
        "schedulefree-adamw",
    ),
    "dropout before a linear layer": (replace(LINEAR, repeats=RANDOM), {}, "schedulefree-sgd"),
    "room for 40 vectors": (LINEAR, {"room": 160_000}, "secant-small"),
    "more passes than mini-batches in one": (
        replace(LINEAR, passes=200),
        {"exclude": ["secant", "secant-small"]},
        "lbfgs",
    ),
    "fewer passes than mini-batches in one": (
        replace(LINEAR, passes=100),
        {"exclude": ["secant", "secant-small"]},
        "schedulefree-sgd",
    ),
    "a noisy network": (NETWORK, {}, "schedulefree-adamw"),
    "matrices and little noise": (
        replace(NETWORK, matrices=0.9, noise=Noise(0.1, 3.0)),
        {},
        "muon",
    ),
    "matrices and much noise": (replace(NETWORK, matrices=0.9), {}, "schedulefree-adamw"),
    "a small network and hundreds of passes": (replace(NETWORK, passes=300), {}, "secant"),
    "the same with dropout": (
        replace(NETWORK, passes=300, repeats=RANDOM),
        {},
        "schedulefree-adamw",
    ),
    "a large network and hundreds of passes": (
        replace(NETWORK, passes=300, weights=10**7),
        {},
        "schedulefree-adamw",
    ),
    "room for nothing but one vector": (LINEAR, {"room": 4000}, "schedulefree-sgd"),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name):
    seen, given, expected = EXTREMES[name]
    optimizer, because = decide(seen, **given)
    assert optimizer == expected
    assert "{" not in because


def test_a_rule_is_reached_for_every_row_of_the_table():
    reached = {decide(seen, **given)[0] for seen, given, _ in EXTREMES.values()}
    assert reached == {rule.optimizer for rule in RULES}


def test_a_threshold_moves_the_decision():
    seen = replace(LINEAR, passes=5)
    assert decide(seen)[0] == "secant"
    assert decide(seen, bounds=Thresholds(linear_passes=6))[0] == "schedulefree-sgd"


def test_what_is_excluded_is_never_taken():
    assert decide(LINEAR, exclude=["secant"])[0] == "secant-small"
    with pytest.raises(ValueError, match="exclude"):
        decide(LINEAR, exclude=[rule.optimizer for rule in RULES])


def test_memory_in_bytes_of_float32():
    assert memory("secant", 1000) == 4 * 71_000
    assert memory("full", 10_010) == 400_840_440
    assert memory("adamw", 10_010) == 80_080


def test_the_words_begin_with_the_verdict_and_say_what_is_not_known():
    network = replace(NETWORK, passes=300)
    words = Advice("secant", "so", network).words()
    assert words.startswith("Take SecantTO, K = 8: so.")
    assert "no study of ours confirms it yet" in words
    assert "no study" not in Advice("secant", "so", LINEAR).words()
    assert "diagonal predicts the next gradient best, by 0.10" in words
    nothing = replace(LINEAR, scores={"none": 0.1, "diagonal": 0.1})
    assert "No learned A predicts" in Advice("secant", "so", nothing).words()


def test_the_lines_that_build_it_hold_the_settings():
    assert Advice("secant-small", "", LINEAR).code.splitlines()[1:] == [
        "sampler = ChunkSampler(data, batch_size=32, chunks=4)",
        "loader = DataLoader(data, batch_sampler=sampler)",
        "optimizer = SecantTO(model.parameters(), sampler, weight_decay=0.001)",
    ]
    network = Advice("secant", "", replace(NETWORK, passes=300)).code.splitlines()[-1]
    assert "base=torch.optim.Adam(model.parameters(), lr=0.01), first=60)" in network
    sharp = replace(LINEAR, weight_decay=0.0, spectrum=Spectrum(0.0, 8.0, 0.0, 0.0))
    assert (
        "SGDScheduleFree(model.parameters(), lr=0.25," in Advice("schedulefree-sgd", "", sharp).code
    )
