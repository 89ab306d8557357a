"""Both protocols are read by one reader: what a list means, and what a fault is called."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

import trainopt
from trainopt.convex.protocol import read_protocol as read_convex
from trainopt.deep.protocol import read_protocol as read_deep
from trainopt.errors import InputError

READERS = {"convex": read_convex, "deep": read_deep}
COMMITTED = Path(trainopt.__file__).parent / "protocols"


def changed(world, folder, old, new):
    """The committed protocol with one change, read."""
    text = (COMMITTED / f"{world}.toml").read_text()
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return READERS[world](path)


@pytest.mark.parametrize("world", READERS)
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("[1, 30]", FloatDistribution(1.0, 30.0, log=True)),
        ("[0.5, 3]", FloatDistribution(0.5, 3.0, log=True)),
        ("[1, 3, 30]", CategoricalDistribution([1, 3, 30])),
        ("[0.1]", CategoricalDistribution([0.1])),
    ],
)
def test_a_pair_of_numbers_is_a_range_and_another_list_a_choice(world, tmp_path, said, meant):
    protocol = changed(world, tmp_path, "\nbeta = [", f"\nbeta = {said} # [")
    assert protocol.spaces["alpha0"]["beta"] == meant


FAULTS = [
    ("[tuning]\n", "[tuning]\ntrails = 3\n", "has trails in [tuning], which isn't known: did you"),
    ("\nlevel = ", "\n# ", "lacks level in [tests]: add it"),
    ("\nlevel = 0.05", "\nlevel = '5 %'", "has level = '5 %' in [tests]: give a number"),
    ("\nstartup = ", "\nstartup = -1 #", "has startup = -1 in [tuning]: give a whole number of"),
    ("[space]\n", "[space]\ngamma = [1, 2]\n", "has gamma in [space], which isn't known"),
    (
        "[space_of.diagonal]",
        "[space_of.dignal]",
        "has dignal in [space_of], which isn't known",
    ),
    ("\nalpha = [", "\nalpha = 3 # [", "has alpha = 3 in [space]: give a list"),
    ("\nalpha = [", "\nalpha = [3, 1] # ", "has the range alpha = [3, 1]: give two numbers, 0 <"),
    ("\nalpha = [", "\nalpha = [3, 'x'] # ", "has alpha = [3, 'x']: give numbers or texts"),
    ("\nalpha = [", "\n# [", "lacks alpha in [space], which "),
    ("[quick]", "[quik]", "has quik in its top level, which isn't known: did you mean quick"),
]
CONVEX = [
    ("\npasses = 30", "", "lacks passes in the [[problem]] iris-softmax: add it"),
    (
        "\npasses = 30",
        "\npasses = 0",
        "has passes = 0 in the [[problem]] iris-softmax: give at least",
    ),
    (
        "\npasses = 30",
        "\npasses = 30\nl1 = 3",
        "has l1 in the [[problem]] iris-softmax, which isn't",
    ),
    ("\nl2 = 1e-2", "\nl2 = true", "has l2 = True in the [[problem]] iris-softmax: give a number"),
]
DEEP = [
    ("steps = 500, ", "", "lacks steps in cpu of the [[problem]] cnn: add it"),
    ("steps = 500, ", "steps = 500, step = 1, ", "has step in cpu of the [[problem]] cnn, which"),
    ('name = "cnn"', 'name = "cnn"\ntpu = 3', "has tpu in the [[problem]] cnn, which isn't known"),
    ('reference = "adamw"', 'reference = "adam"', "has adam in [tests], which is not one of its"),
]


@pytest.mark.parametrize(
    ("world", "old", "new", "sentence"),
    [(world, *fault) for world in READERS for fault in FAULTS]
    + [("convex", *fault) for fault in CONVEX]
    + [("deep", *fault) for fault in DEEP],
)
def test_a_fault_is_one_sentence_that_names_the_file(world, tmp_path, old, new, sentence):
    with pytest.raises(InputError) as error:
        changed(world, tmp_path, old, new)
    assert f"{tmp_path / 'mine.toml'} {sentence}" in str(error.value)
    assert "\n" not in str(error.value)
