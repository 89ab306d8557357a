"""The committed protocol, and what bad ones say."""

from pathlib import Path

import pytest

import trainopt
from trainopt.deep.protocol import read_protocol
from trainopt.deep.tasks import TASKS
from trainopt.errors import InputError
from trainopt.harness.names import optimizers_of
from trainopt.harness.optimizers import OPTIMIZERS

COMMITTED = Path(trainopt.__file__).parent / "protocols" / "deep.toml"
NORMALISED = COMMITTED.with_name("normalised-deep.toml")


@pytest.mark.parametrize("path", [COMMITTED, NORMALISED], ids=lambda path: path.stem)
def test_the_committed_protocols(path):
    protocol = read_protocol(path)
    assert set(read_protocol(path, size="gpu").tasks) == set(TASKS)
    assert set(protocol.tasks) == set(TASKS) - {"resnet18"}
    assert protocol.seeds >= 3
    for name, start in protocol.starts.items():
        space = protocol.spaces[name]
        assert set(start) == set(space)
        assert set(space) <= set(OPTIMIZERS[name].settings)
        assert all(space[k]._contains(space[k].to_internal_repr(start[k])) for k in start), name
        if "lr" in space:
            low, high = space["lr"].low, space["lr"].high
            assert high / low == pytest.approx(10**3.5, rel=0.06), name
    for budget in protocol.budgets:
        assert {protocol.reference, protocol.baseline} <= set(budget.optimizers)
        assert budget.plan.marks[-1] == budget.plan.steps
    quick = read_protocol(path, quick=True)
    assert quick.trials < protocol.trials
    assert quick.digest != protocol.digest
    assert all(
        small.plan.steps < full.plan.steps
        for small, full in zip(quick.budgets, protocol.budgets, strict=True)
    )


def test_every_optimizer_is_in_a_committed_protocol():
    there = [set(read_protocol(path).spaces) for path in (COMMITTED, NORMALISED)]
    assert set.union(*there) == set(optimizers_of("deep"))


def test_a_protocol_takes_what_it_does_not_say_from_the_one_it_extends():
    one, other = read_protocol(COMMITTED), read_protocol(NORMALISED)
    assert (one.trials, one.seeds, one.level) == (other.trials, other.seeds, other.level)
    for name in ("diagonal", "rankone", "alpha0", "adamw"):
        assert other.spaces[name] == one.spaces[name]
        assert other.starts[name] == one.starts[name]
    assert other.spaces["diagonal-normalised"]["alpha"].high == 1.0
    assert other.digest != one.digest


def test_fewer_tasks_optimizers_and_trials():
    protocol = read_protocol(COMMITTED).only(["cnn"])
    assert protocol.tasks == ("cnn",)
    assert protocol.digest == read_protocol(COMMITTED).digest  # goes on in the same folder
    small = protocol.with_counts(["adamw"], 2, None)
    assert small.budgets[0].optimizers == ("alpha0", "adamw")
    on_estimate = protocol.with_counts(["muon-alpha0"], 2, None)
    assert on_estimate.budgets[0].optimizers == ("alpha0", "muon", "muon-alpha0")
    assert (small.trials, small.startup, small.seeds) == (2, 2, protocol.seeds)
    assert small.digest != protocol.digest


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "cnn"', 'name = "cn"', "There is no task cn: did you mean cnn?"),
        ('"rankone", ', '"rankon", ', "There is no optimizer rankon: did you mean rankone?"),
        (
            "alpha = [1e-3, 1.0]",
            "alpha = [1.0, 1e-3]",
            "has the range alpha = [1.0, 0.001]",
        ),
        ('"cosine"', '"cosin"', "there is no schedule cosin: did you mean cosine?"),
        (
            "batch = 8 ",
            "batch = 0 ",
            "has batch = 0 in cpu of the [[problem]] transformer: give at least 1.",
        ),
        (
            "trials = 10 ",
            "trails = 10 ",
            "isn't known: did you mean trials?",
        ),
        ("[tuning]", "[tuning", "isn't TOML"),
        (
            '"lion", ',
            "",
            "which takes its settings from lion, which is not",
        ),
    ],
)
def test_bad_protocols_get_a_sentence(tmp_path, old, new, sentence):
    text = COMMITTED.read_text()
    assert old in text
    path = tmp_path / "deep.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError) as error:
        read_protocol(path)
    assert sentence in str(error.value)


def test_bad_choices_get_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"There is no protocol .*none.toml: leave out"):
        read_protocol(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"The size is tpu: give one of cpu, gpu\."):
        read_protocol(COMMITTED, size="tpu")
    with pytest.raises(InputError, match="resnet18 has no budget for the size cpu"):
        read_protocol(COMMITTED).only(["resnet18"])
    with pytest.raises(InputError, match=r"seeds is 0: give at least 1\."):
        read_protocol(COMMITTED).with_counts(None, None, 0)
