"""The study as a whole, tiny: runs, stops, goes on, is shared, and is reported."""

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from ended import kill
from typer.testing import CliRunner

import trainopt
from trainopt.commands import app
from trainopt.convex.normalised import PROTOCOL, run_normalised
from trainopt.convex.normalised_tables import write_beside
from trainopt.convex.protocol import read_protocol
from trainopt.convex.report import verdict
from trainopt.convex.tables import Results, headline
from trainopt.convex.world import Convex
from trainopt.errors import InputError
from trainopt.harness.names import NORMALISED
from trainopt.harness.provenance import commands
from trainopt.harness.run import run
from trainopt.harness.search import best_of, finished, score
from trainopt.harness.statistics import counts_words
from trainopt.harness.storage import shared_storage
from trainopt.harness.world import Unit

COMMITTED = Path(trainopt.__file__).parent / "protocols" / "convex.toml"
ROOT = Path(__file__).parents[2]
SECANTS = ("secant", "secant-tuned")
ALL = tuple(read_protocol(COMMITTED).spaces)
CASES = """
[[problem]]
name = "iris-softmax"
data = "iris"
model = "softmax"
l2 = 1e-2
batch = 16
passes = 6
sensitivity = true

[[problem]]
name = "diabetes-ridge"
data = "diabetes"
model = "ridge"
l2 = 1e-2
batch = 64
passes = 6

[[problem]]
name = "covtype-softmax"
data = "covtype"
model = "softmax"
l2 = 1e-2
batch = 64
passes = 6
"""


def protocol_file(folder, cases, **numbers):
    """The committed protocol with those cases and tiny numbers."""
    text = COMMITTED.read_text().split("[[problem]]")[0] + cases
    for old, new in (
        ("trials = 32 ", "trials = 4 "),
        ("startup = 8 ", "startup = 2 "),
        ("at_once = 8 ", "at_once = 3 "),
        ("searches = 3 ", f"searches = {numbers['searches']} "),
        ("seeds = 12 ", f"seeds = {numbers['seeds']} "),
        ("budgets = [8, 32]", "budgets = [2, 4]"),
        ("trials = 128 ", "trials = 6 "),
        ("resamples = 10000", "resamples = 100"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = folder / "protocol.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Three cases, one of them without data, and what the statistics need."""
    return protocol_file(tmp_path_factory.mktemp("tiny"), CASES, searches=2, seeds=8)


@pytest.fixture(scope="session")
def tinier(tmp_path_factory):
    """A case, a search and two seeds: enough to be stopped, and to be shared."""
    case = CASES.split("\n\n")[1]
    return protocol_file(tmp_path_factory.mktemp("tinier"), case, searches=1, seeds=2)


def with_optimizers(protocol, names, path):
    """The same protocol for these optimizers only."""
    chosen = f"optimizers = {json.dumps(list(names))}\n"
    path.write_text(re.sub(r"(?s)optimizers = \[.*?\]\n", chosen, protocol.read_text(), count=1))
    return path


def command(protocol, out):
    return [
        *(sys.executable, "-m", "trainopt", "study", "convex", "--protocol", str(protocol)),
        *("--out", str(out), "--workers", "1"),
    ]


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """An uninterrupted run. Covtype would be a large download where there is a network."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIKIT_LEARN_DATA", "/dev/null/nowhere")
        run(Convex(read_protocol(tiny)), out, None, 1, show=False)
        yield out


def tables(folder):
    keys = {
        "runs": ["problem", "optimizer", "search", "budget", "seed", "passes"],
        "trials": ["problem", "optimizer", "search", "number"],
    }
    return {
        name: pd.read_parquet(folder / f"{name}.parquet").sort_values(by).reset_index(drop=True)
        for name, by in keys.items()
    }


def finals(folder):
    """The final runs of every whole unit, as the storage has them."""
    summaries = optuna.get_all_study_summaries(shared_storage(None, folder))
    attributes = {s.study_name: s.user_attrs for s in summaries}
    return {name: json.dumps(held["final"]) for name, held in attributes.items() if "final" in held}


def assert_whole(folder, sizes, searches, seeds, methods=ALL):
    """Every unit is there once: the trials of its case, the seeds of each budget."""
    found = tables(folder)
    units = {name: 1 if name in SECANTS else searches for name in methods}
    trials = found["trials"].groupby(["problem", "optimizer", "search"]).number
    assert trials.nunique().eq(trials.size()).all()
    counted = trials.size().groupby(level="problem").unique().to_dict()
    assert {case: size.tolist() for case, size in counted.items()} == {
        case: [size] for case, size in sizes.items()
    }
    tuned = sum(count for name, count in units.items() if name != "secant")
    assert len(trials) == len(sizes) * tuned
    ends = found["runs"][found["runs"].passes == 0]
    counts = ends.groupby(["problem", "optimizer", "search", "budget"], observed=True).seed.count()
    assert counts.eq(seeds).all()
    budgets = sum(3 if size > 4 else 2 for size in sizes.values())
    assert len(counts) == budgets * sum(units.values())


def test_it_runs_and_skips_what_has_no_data(whole):
    assert_whole(whole, {"diabetes-ridge": 4, "iris-softmax": 6}, searches=2, seeds=8)
    manifest = json.loads((whole / "run.json").read_text())
    assert list(manifest["problems"]) == ["iris-softmax", "diabetes-ridge"]
    assert "connect to the network" in manifest["skipped"]["covtype-softmax"]
    timing = pd.read_parquet(whole / "timing.parquet")
    assert (timing.groupby("problem").optimizer.nunique() == len(ALL)).all()
    assert (timing.seconds_per_step > 0).all()


def test_the_best_setting_of_each_budget_is_run(whole, tiny):
    protocol = read_protocol(tiny)
    storage = shared_storage(None, whole)
    case = protocol.cases[0]
    study = optuna.load_study(
        study_name=Convex(protocol).name(Unit(case.name, "adam", 1)), storage=storage
    )
    trials = finished(study)
    assert trials[0].params == protocol.starts["adam"]
    for budget in (2, 4, 6):
        chosen = study.user_attrs["final"][str(budget)]["settings"]
        assert chosen == best_of(trials, budget)
        assert chosen == min(trials[:budget], key=lambda trial: trial.value).params


def test_a_diverged_trial_is_the_worst():
    assert score(1e-3) == pytest.approx(-3)
    assert score(float("inf")) > score(1e20)


def test_a_killed_study_goes_on(tinier, tmp_path, start):
    out = tmp_path / "out"
    running = start(command(tinier, out), stderr=subprocess.PIPE)
    log = out / "trials.log"
    while not (log.exists() and log.read_text().count('"final"') >= 3):
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    kill(running)
    running.communicate()  # until all of its processes have ended
    before = finals(out)
    assert len(before) >= 3
    manifest = json.loads((out / "run.json").read_text())
    assert commands(manifest).startswith("trainopt study convex --protocol")
    run(Convex(read_protocol(tinier)), out, None, 1, show=False)
    assert_whole(out, {"diabetes-ridge": 4}, searches=1, seeds=2)
    assert before.items() <= finals(out).items()
    run(Convex(read_protocol(tinier)), tmp_path / "alone", None, 1, show=False)
    for name, table in tables(tmp_path / "alone").items():
        pd.testing.assert_frame_equal(tables(out)[name], table)
    size = log.stat().st_size
    for table in ("runs", "trials"):
        (out / f"{table}.parquet").unlink()
    run(Convex(read_protocol(tinier)), out, None, 1, show=False)
    assert_whole(out, {"diabetes-ridge": 4}, searches=1, seeds=2)
    assert log.stat().st_size == size  # nothing was left to do


def test_another_protocol_is_refused(whole, tiny, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text().replace("level = 0.05", "level = 0.01"))
    with pytest.raises(InputError, match="holds results of another protocol"):
        run(Convex(read_protocol(other)), whole, None, 1, show=False)


def test_an_optimizer_joins_a_study(tinier, tmp_path):
    """The rows that are there stay as they are, and in their order; so does the folder."""
    out = tmp_path / "out"
    few = with_optimizers(tinier, ["adam", "sgd"], tmp_path / "few.toml")
    run(Convex(read_protocol(few)), out, None, 1, show=False)
    names = ("runs", "trials", "solvers", "timing")
    before = {name: pd.read_parquet(out / f"{name}.parquet") for name in names}
    (out / "trials.log").unlink()  # which committed results don't have
    more = with_optimizers(tinier, ["adam", "sgd", *SECANTS], tmp_path / "more.toml")
    protocol = read_protocol(more)
    assert protocol.digest == read_protocol(few).digest == read_protocol(tinier).digest
    run(Convex(protocol), out, None, 1, show=False)
    for name, old in before.items():
        new = pd.read_parquet(out / f"{name}.parquet")
        joined = {"trials": {"secant-tuned"}, "solvers": set()}.get(name, set(SECANTS))
        assert set(new.optimizer) - set(old.optimizer) == joined
        kept = new[~new.optimizer.isin(list(joined))].reset_index(drop=True)
        kinds = old.dtypes.astype(str).replace("category", "str").to_dict()
        pd.testing.assert_frame_equal(kept.astype(kinds), old.astype(kinds))
    assert_whole(out, {"diabetes-ridge": 4}, searches=1, seeds=2, methods=["adam", "sgd", *SECANTS])
    other = tmp_path / "other.toml"
    other.write_text(more.read_text().replace("first = [1, 2, 3]", "first = [1, 2]"))
    with pytest.raises(InputError, match="holds secant-tuned with another search"):
        run(Convex(read_protocol(other)), out, None, 1, show=False)


def test_a_protocol_takes_what_it_does_not_say_from_the_one_it_extends(tinier, tmp_path):
    path = tmp_path / "new.toml"
    path.write_text('extends = "convex"\noptimizers = ["adam", "secant"]\n' + CASES)
    new, committed = read_protocol(path), read_protocol(COMMITTED)
    assert [case.name for case in new.cases] == re.findall('name = "(.*)"', CASES)
    assert list(new.spaces) == ["adam", "secant"]
    assert new.spaces["adam"] == committed.spaces["adam"]
    assert (new.main, new.seeds, new.level) == (committed.main, committed.seeds, committed.level)
    assert new.own["adam"] == committed.own["adam"]
    assert new.digest != committed.digest


def test_other_optimizers_on_the_same_cases_are_the_same_protocol():
    committed = read_protocol(COMMITTED)
    normalised = read_protocol(PROTOCOL)
    assert set(NORMALISED).isdisjoint(committed.spaces)
    assert set(normalised.spaces) == set(NORMALISED)
    assert (normalised.cases, normalised.digest) == (committed.cases, committed.digest)
    kept = json.loads((ROOT / "results" / "convex" / "run.json").read_text())
    assert (committed.digest, committed.own) == (kept["protocol"], kept["optimizers"])


def test_the_normalised_rate_is_compared_with_the_runs_that_are_there(whole, tiny, tmp_path):
    convex, out = Results.load(whole, read_protocol(tiny)), tmp_path / "out"
    protocol = read_protocol(with_optimizers(tiny, NORMALISED, tmp_path / "three.toml"))
    run_normalised(convex, protocol, out, show=False)
    sizes = {"diabetes-ridge": 4, "iris-softmax": 6}
    assert_whole(out, sizes, searches=2, seeds=8, methods=NORMALISED)
    before = tables(out)["trials"]
    (out / "trials.log").unlink()
    run_normalised(convex, protocol, out, show=False)  # nothing is left to do
    pd.testing.assert_frame_equal(tables(out)["trials"], before)
    text = write_beside(out, convex)
    assert (out / "summary.md").read_text() == text
    # One of the numbers, from the runs themselves.
    ends = []
    for folder, name in ((out, "full-normalised"), (whole, "full")):
        runs = pd.read_parquet(folder / "runs.parquet")
        last = runs[(runs.budget == 4) & (runs.passes == 6) & (runs.problem == "diabetes-ridge")]
        last = last[last.optimizer == name]
        ends.append(np.log10(last.suboptimality).groupby(last.seed).mean())
    found = pd.read_csv(out / "comparison.csv").set_index(["optimizer", "reference", "problem"])
    difference = found.loc[("full-normalised", "full", "diabetes-ridge")].difference
    assert difference == pytest.approx((ends[0] - ends[1]).mean(), rel=1e-4)
    other = replace(protocol, digest="another")
    with pytest.raises(InputError, match="of another protocol: give its folder"):
        run_normalised(convex, other, tmp_path / "other", show=False)


def test_untuned_secant_to_has_its_defaults(whole, tiny):
    case = read_protocol(tiny).cases[0]
    problem = case.problem()
    w = torch.zeros(problem.shape, requires_grad=True)
    sampler = trainopt.ChunkSampler(problem.n, case.batch, seed=5)
    optimizer = trainopt.SecantTO([w], sampler)
    for _ in range(case.passes):
        for rows in sampler:
            optimizer.zero_grad()
            problem.loss(w, torch.tensor(rows)).backward()
            optimizer.step()
    best = json.loads((whole / "run.json").read_text())["problems"][case.name]["best"]
    runs = pd.read_parquet(whole / "runs.parquet")
    end = runs[(runs.optimizer == "secant") & (runs.problem == case.name) & (runs.passes == 6)]
    ends = end[(end.seed == 5) & (end.budget == 4)].suboptimality
    assert ends.tolist() == pytest.approx([problem.objective(w) - best], rel=1e-5, abs=1e-14)


def test_the_headline_says_what_the_verdicts_are(whole, tiny):
    """SecantTO comes first where it wins most cases against each rival, and last where not."""
    results = Results.load(whole, read_protocol(tiny))
    first, *_, luck = headline(results)
    counts = results.against("adam").query("optimizer == 'secant'").verdict.value_counts()
    assert luck.startswith("Of all these differences")
    for sentence in headline(results):
        if sentence.startswith("SecantTO"):
            assert counts_words(counts.reindex(["win", "tie", "loss"], fill_value=0)) in sentence
            assert (sentence == first) == (" beats each of its rivals" in sentence)
    worse = results.runs.copy()
    worse.loc[worse.optimizer == "secant", "suboptimality"] = 1.0
    *_, last, _ = headline(replace(results, runs=worse))
    assert "SecantTO, untuned, does not beat" in last


def test_the_command_reports_what_the_tables_say(whole, tiny):
    """On a folder where nothing is left to do."""
    done = CliRunner().invoke(app, command(tiny, whole)[3:])
    assert done.exit_code == 0, done.output
    results = Results.load(whole, read_protocol(tiny))
    summary = pd.read_csv(whole / "summary.csv").set_index("optimizer")
    assert f"Report: {whole / 'report.html'}" in done.stdout
    page = html.unescape((whole / "report.html").read_text())
    comparison = pd.read_csv(whole / "comparison.csv")
    for name in ALL:
        rows = comparison[(comparison.reference == "adam") & (comparison.optimizer == name)]
        if name != "adam":
            assert len(rows) == 2
            assert summary.loc[name, "win:adam"] == (rows.verdict == "win").sum()
    for sentence in headline(results):
        assert sentence in page
    for sentence in verdict(results):
        assert f"<p>{sentence}</p>" in page
        assert sentence in done.stdout
    for picture in ("forest-adam.png", "profiles.png", "ranks.png", "best-of-k.png", "curves.png"):
        assert (whole / picture).stat().st_size > 10_000
    assert page.count('<img src="data:image/png;base64,') == 7
    assert "Skipped, and not counted: covtype-softmax" in page
    # One of the numbers, from the runs themselves.
    runs = pd.read_parquet(whole / "runs.parquet")
    last = runs[(runs.budget == 4) & (runs.passes == 6) & (runs.problem == "diabetes-ridge")]
    logs = np.log10(last.suboptimality).groupby([last.optimizer, last.seed], observed=True).mean()
    expected = (logs["diagonal"] - logs["adam"]).mean()
    row = comparison[
        (comparison.reference == "adam")
        & (comparison.optimizer == "diagonal")
        & (comparison.problem == "diabetes-ridge")
    ].iloc[0]
    assert row.difference == pytest.approx(expected, rel=1e-4)


def test_a_folder_without_a_study_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="doesn't hold what `trainopt study convex` writes"):
        Results.load(tmp_path, read_protocol(tiny))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            'data = "iris"',
            'data = "irish"',
            "has the data set irish, .*: did you mean iris",
        ),
        (
            'model = "ridge"',
            'model = "rigde"',
            "has the model rigde, .*: did you mean ridge",
        ),
        ("[tests]", "[test]", "has test in its top level, which isn't known: did you mean tests"),
        ("[tests]", "[tests", "isn't TOML"),
    ],
)
def test_a_bad_protocol_gets_a_sentence(tiny, tmp_path, old, new, sentence):
    path = tmp_path / "bad.toml"
    path.write_text(tiny.read_text().replace(old, new))
    with pytest.raises(InputError, match=sentence):
        read_protocol(path)


def test_the_committed_protocol_is_the_study_that_was_asked_for():
    protocol = read_protocol(COMMITTED)
    assert len(protocol.cases) >= 17
    assert len({case.data for case in protocol.cases}) >= 10
    assert len({case.l2 for case in protocol.cases}) >= 2
    assert {case.scaling for case in protocol.cases} == {None, "raw"}
    assert {"logistic", "softmax", "ridge", "svm", "huber"} == {c.model for c in protocol.cases}
    assert protocol.main == 32
    assert protocol.seeds >= 10
    assert set(range(protocol.seeds)).isdisjoint(protocol.tuning_seeds)
    quick = read_protocol(COMMITTED, quick=True)
    assert 0 < len(quick.cases) < len(protocol.cases)
    assert quick.digest != protocol.digest
    for small in (quick, protocol):  # a win is possible
        assert small.level > len(small.cases) * 2 / 2**small.seeds


def test_what_quick_runs_is_no_part_of_the_whole_study(tiny, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text().replace("searches = 1\nseeds = 8", "searches = 1\nseeds = 9"))
    assert read_protocol(other).digest == read_protocol(tiny).digest
    assert read_protocol(other, True).digest != read_protocol(tiny, True).digest


# Several machines -----------------------------------------------------------------------------


def installed_programs():
    """The folder of the server's programs, wherever the one in PATH points to."""
    found = shutil.which("initdb") or max(
        Path("/usr/lib").glob("postgresql/*/bin/initdb"), default=""
    )
    return Path(found).resolve().parent if found else None


def unpacked_programs(folder):
    """The same out of Debian's package, without installing it; None where that isn't possible."""
    try:
        shown = subprocess.run(
            ["apt-cache", "show", "postgresql"], check=True, capture_output=True, text=True
        ).stdout
        name = re.search(r"postgresql-\d+", shown).group()
        for command in (["apt-get", "download", name], ["sh", "-c", "dpkg -x ./*.deb unpacked"]):
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
        (initdb,) = folder.glob("unpacked/usr/lib/postgresql/*/bin/initdb")
        subprocess.run([initdb, "--version"], check=True, capture_output=True)
    except (OSError, AttributeError, ValueError, subprocess.CalledProcessError):
        return None
    return initdb.parent


@pytest.fixture
def database(tmp_path_factory):
    """The URL of a PostgreSQL server that lives as long as the test, from Debian's package."""
    pytest.importorskip("psycopg", reason="psycopg isn't installed")
    folder = tmp_path_factory.mktemp("postgres")
    programs = installed_programs() or unpacked_programs(folder)
    if programs is None:
        pytest.skip("no PostgreSQL server, and Debian's package can't be had")
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = "nobody"
        for path in [folder, *folder.parents]:
            if path.owner() == "root" and path.is_relative_to("/tmp") and path != Path("/tmp"):
                path.chmod(0o755)
        shutil.chown(folder, user)
    data = folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    initdb = [programs / "initdb", "-D", data, "-U", "study", "--auth=trust", "--no-sync"]
    initdb += ["-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, capture_output=True, user=user)
    postgres = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder]
    postgres += ["-h", "127.0.0.1", "-F"]
    server = subprocess.Popen(postgres, stderr=subprocess.DEVNULL, user=user)
    try:
        ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, check=False, capture_output=True).returncode != 0:
            assert server.poll() is None
            time.sleep(0.05)
        yield f"postgresql+psycopg://study@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)  # ends without waiting for its clients
        server.wait()


FEW = ["full", "diagonal", "alpha0", "adam", "sgd", "svrg"]
ONE_MACHINE = """
import sys
from pathlib import Path
from trainopt.convex.protocol import read_protocol
from trainopt.convex.world import Convex
from trainopt.harness.run import run
protocol, out, storage = sys.argv[1:]
run(Convex(read_protocol(Path(protocol))), Path(out), storage, 1, show=False)
"""


def test_two_machines_share_a_postgresql_server(tinier, whole, database, tmp_path, start):
    folders = [tmp_path / "one", tmp_path / "two"]
    few = with_optimizers(tinier, FEW, tmp_path / "few.toml")
    running = [
        start(
            [sys.executable, "-c", ONE_MACHINE, str(few), str(folder), database],
            stderr=subprocess.PIPE,
        )
        for folder in folders
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
    for folder in folders:
        assert_whole(folder, {"diabetes-ridge": 4}, searches=1, seeds=2, methods=FEW)
        assert not (folder / "trials.log").exists()
    one, two = (tables(folder) for folder in folders)
    pd.testing.assert_frame_equal(one["runs"], two["runs"])
    query = "problem == 'diabetes-ridge' and optimizer in @FEW and search == 0 and seed < 2"
    alone = tables(whole)["runs"].query(query)
    assert len(alone) == len(one["runs"])
    # What a machine finds alone; its batches are of other sizes, so to rounding.
    np.testing.assert_allclose(one["runs"].suboptimality, alone.suboptimality, rtol=1e-4)


def test_a_storage_that_is_none_gets_a_sentence(tinier, tmp_path):
    done = CliRunner().invoke(app, [*command(tinier, tmp_path)[3:], "--storage", "nosuch://x"])
    assert done.exit_code == 2
    assert "nosuch://x can't be opened" in done.stderr
