"""The study as a whole, tiny: runs, stops, goes on, and is reported."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tiny_task import tiny
from typer.testing import CliRunner

import trainopt
from trainopt.commands import app
from trainopt.deep import world as deep_world
from trainopt.deep.protocol import read_protocol
from trainopt.deep.report import draw_report, write_report
from trainopt.deep.tables import Results, headline
from trainopt.deep.world import Deep
from trainopt.errors import InputError
from trainopt.harness.run import run, run_unit, tables_of
from trainopt.harness.storage import shared_storage
from trainopt.harness.world import Unit

COMMITTED = Path(trainopt.__file__).parent / "protocols" / "deep.toml"


@pytest.fixture(scope="session")
def protocol_file(tmp_path_factory):
    """The committed protocol with tiny numbers, four optimizers, one task."""
    text = COMMITTED.read_text()
    head = text.split("[[problem]]")[0]
    start, end = head.index("optimizers = ["), head.index("[tuning]")
    names = '["alpha0", "adamw", "adamw-diagonal", "diagonal"]'
    head = head[:start] + f"optimizers = {names}\n\n" + head[end:]
    for old, new in (
        ("trials = 10 ", "trials = 3 "),
        ("startup = 4 ", "startup = 2 "),
        ("seeds = 5 ", "seeds = 3 "),
    ):
        assert old in head
        head = head.replace(old, new)
    path = tmp_path_factory.mktemp("protocol") / "deep.toml"
    path.write_text(head + '[[problem]]\nname = "cnn"\ncpu = { steps = 8, batch = 16 }\n')
    return path


def without_clock(rows):
    return pd.DataFrame(rows).drop(columns="seconds")


@pytest.mark.parametrize("stop_after", [1, 4])
def test_what_was_stopped_goes_on_and_computes_nothing_twice(
    protocol_file, tmp_path, monkeypatch, stop_after
):
    world, unit = Deep(read_protocol(protocol_file), tiny()), Unit("cnn", "diagonal")
    whole = shared_storage(None, tmp_path)
    run_unit(world, unit, {}, whole)

    calls = []
    train = deep_world.train

    def counted(*arguments):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(arguments)
        return train(*arguments)

    (tmp_path / "stopped").mkdir()
    stopped = shared_storage(None, tmp_path / "stopped")
    monkeypatch.setattr(deep_world, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        run_unit(world, unit, {}, stopped)
    stop_after = 100
    run_unit(world, unit, {}, stopped)
    assert len(calls) == world.protocol.trials + world.seeds
    trials, runs = tables_of(world, unit, stopped)
    all_trials, all_runs = tables_of(world, unit, whole)
    assert trials == all_trials
    pd.testing.assert_frame_equal(without_clock(runs), without_clock(all_runs))
    run_unit(world, unit, {}, stopped)
    assert len(calls) == world.protocol.trials + world.seeds


def test_the_first_trial_is_the_start_and_divergence_the_worst(protocol_file, tmp_path):
    world, unit = Deep(read_protocol(protocol_file), tiny()), Unit("cnn", "diagonal")
    storage = shared_storage(None, tmp_path)
    run_unit(world, unit, {}, storage)
    trials, runs = tables_of(world, unit, storage)
    start = world.protocol.starts["diagonal"]
    assert json.loads(trials[0]["settings"]) == start
    assert {row["seed"] for row in runs} == {0, 1, 2}
    diverged, trained = world.scores(unit, {}, [start | {"lr": 1e30}, start])
    assert diverged > 1e3 > trained


def test_the_command_and_its_report(protocol_file, tmp_path):
    out = tmp_path / "deep"
    command = ["study", "deep", "--protocol", str(protocol_file), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--size", "cpu", "--workers", "1"])
    assert done.exit_code == 0, done.output
    for word in (
        "CNN on MNIST",
        "AdamW on Ĝ",
        "TO, α = 0",
        "the best Trainable Optimizer",
        "Report:",
    ):
        assert word in done.stdout
    protocol = read_protocol(protocol_file)
    found = Results.load(out, protocol)
    assert len(found.runs) == 4 * 3 * 9
    assert not found.runs.duplicated(["problem", "optimizer", "seed", "step"]).any()
    final = found.final.set_index("optimizer")
    last = found.runs[(found.runs.optimizer == "adamw") & (found.runs.step == 8)]
    mine, plain = (json.loads(final.settings[name]) for name in ("adamw-diagonal", "adamw"))
    assert mine.items() > plain.items()
    assert set(mine) - set(plain) == {"alpha", "beta"}
    assert final.loc["adamw", "val_loss"] == pytest.approx(last.val_loss.mean())
    for table, name, other in (
        (found.learned, "diagonal", "alpha0"),
        (found.on_estimate, "adamw-diagonal", "adamw"),
    ):
        expected = final.val_loss[name] - final.val_loss[other]
        assert table.set_index("optimizer").difference.to_dict() == {name: pytest.approx(expected)}
    page = (out / "report.html").read_text()
    assert f"{last.val_loss.mean():.4f}" in page
    assert all((out / name).exists() for name in ("final.csv", "curves-cnn.png", "run.json"))
    assert any("AdamW on Ĝ" in sentence for sentence in headline(found))

    # Nothing steps along a learned estimate but the Trainable Optimizers.
    few = {
        name: table[table.optimizer != "adamw-diagonal"]
        for name, table in (("runs", found.runs), ("trials", found.trials))
    }
    (tmp_path / "few").mkdir()
    write_report(replace(found, **few), tmp_path / "few")
    assert (tmp_path / "few" / "estimated.csv").read_text().startswith("optimizer,problem,")

    # Committed results come without their storage: nothing runs, the report is made again.
    (out / "trials.log").unlink()
    (out / "report.html").unlink()
    run(Deep(protocol), out, None, 1, show=False)
    draw_report(Results.load(out, protocol), out)
    assert (out / "report.html").exists()
    assert not (out / "trials.log").exists()

    with pytest.raises(InputError, match="holds results of another protocol"):
        run(Deep(protocol.with_counts(None, 2, None)), out, None, 1, show=False)


def test_a_task_without_its_parts_is_skipped_with_a_sentence(protocol_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINOPT_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", "")
    text = protocol_file.read_text().replace('name = "cnn"', 'name = "encoder"')
    path = tmp_path / "deep.toml"
    path.write_text(text)
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    out = tmp_path / "deep"
    run(Deep(read_protocol(path)), out, None, 1, show=False)
    manifest = json.loads((out / "run.json").read_text())
    assert not manifest["problems"]
    assert "isn't in" in manifest["skipped"]["encoder"]
    assert "\n" not in manifest["skipped"]["encoder"]
    assert not (out / "runs.parquet").exists()


def test_from_python_no_process_is_started(protocol_file, monkeypatch):
    """A script without a main guard would start itself again in each."""
    monkeypatch.setattr("trainopt.harness.processes.ProcessPoolExecutor", None)
    table = trainopt.compare("cnn", "adamw", protocol=protocol_file, size="cpu", tune=0, seeds=1)
    assert set(table.optimizer) == {"alpha0", "adamw"}


def test_compare_takes_a_deep_task_and_says_what_it_doesnt_take():
    done = CliRunner().invoke(app, ["compare", "cnn", "--l2", "3"])
    assert done.exit_code == 2
    assert "cnn is a deep task: leave out --l2" in done.stderr


def test_a_deep_task_takes_epochs_and_a_batch_size(protocol_file, tmp_path):
    small = {"protocol": protocol_file, "size": "cpu", "tune": 0, "seeds": 1}
    for number, (given, steps, batch) in enumerate(
        (({"epochs": 1, "batch_size": 400}, None, 400), ({"batch_size": 32}, 4, 32))
    ):
        out = tmp_path / str(number)
        trainopt.compare("cnn", "adamw,diagonal", out=out, **given, **small)
        end = pd.read_parquet(out / "runs.parquet").iloc[-1]
        assert end.examples == end.step * batch
        rows = json.loads((out / "run.json").read_text())["problems"]["cnn"]["rows"]["train"]
        # A pass without its last, partial batch; else the protocol's 8 steps of 16 rows.
        assert end.step == (steps or rows // batch)


def test_a_folder_that_is_gone_on_with_tells_of_all_that_it_holds(protocol_file, tmp_path):
    small = {"protocol": protocol_file, "size": "cpu", "tune": 0}
    trainopt.compare("cnn", "adamw", out=tmp_path, seeds=2, **small)
    trainopt.compare("cnn", "diagonal", out=tmp_path, seeds=1, **small)
    (tmp_path / "report.html").unlink()
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text()
    assert all(title in page for title in ("AdamW", "Diagonal-TO", "TO, α = 0"))
    assert json.loads((tmp_path / "run.json").read_text())["seeds"] == 2

    study = read_protocol()
    manifest = study.only(["cnn", "encoder"]).described()
    manifest |= study.only(["resnet", "cnn"]).joined(manifest)
    assert study.again({**manifest, "protocol": study.digest}).tasks == ("cnn", "encoder", "resnet")
