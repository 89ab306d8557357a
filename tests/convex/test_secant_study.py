"""`trainopt study secant` on one case with two seeds, and its page."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import trainopt
from trainopt import ChunkSampler, SecantTO
from trainopt.commands import app
from trainopt.convex.problems import Problem
from trainopt.convex.protocol import read_protocol
from trainopt.convex.secant_ablations import VARIANTS, Drawn
from trainopt.convex.secant_seconds import fastest
from trainopt.convex.secant_tables import clocked, summary
from trainopt.convex.stale import Stale
from trainopt.convex.train import train
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.secant import Plan

ROOT = Path(__file__).parents[2]
CONVEX = ROOT / "results" / "convex"
CASE, PASSES, SEEDS = "wine-softmax", 12, 2


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The committed convex study, cut down to one case, two seeds and 12 passes."""
    folder = tmp_path_factory.mktemp("convex")
    committed = Path(trainopt.__file__).parent / "protocols" / "convex.toml"
    head, *cases = committed.read_text().split("[[problem]]")
    (own,) = (text for text in cases if f'"{CASE}"' in text)
    text = head.replace("seeds = 12 ", f"seeds = {SEEDS} ") + "[[problem]]" + own
    protocol = folder / "protocol.toml"
    protocol.write_text(text.replace("passes = 30", f"passes = {PASSES}"))
    manifest = json.loads((CONVEX / "run.json").read_text())
    manifest["protocol"] = read_protocol(protocol).digest
    manifest["problems"] = {CASE: manifest["problems"][CASE]}
    (folder / "run.json").write_text(json.dumps(manifest))
    for name in ("runs", "trials", "solvers", "timing"):
        table = pd.read_parquet(CONVEX / f"{name}.parquet")
        table = table[table.problem == CASE].astype({"problem": str, "optimizer": str})
        if name == "runs":
            table = table[(table.seed < SEEDS) & (table.passes <= PASSES)]
        table.to_parquet(folder / f"{name}.parquet")
    return folder


def command(small, out):
    options = ["--convex", small, "--protocol", small / "protocol.toml", "--out", out]
    return CliRunner().invoke(app, ["study", "secant", *map(str, options)])


@pytest.fixture(scope="module")
def ran(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("secant")
    result = command(small, out)
    assert result.exit_code == 0, result.output
    return out, result.output


def curve(out, optimizer, seed, search=0):
    runs = pd.read_parquet(out / "runs.parquet")
    chosen = runs[(runs.optimizer == optimizer) & (runs.seed == seed) & (runs.search == search)]
    return chosen.sort_values("passes").suboptimality.to_numpy()


def case(small):
    (only,) = read_protocol(small / "protocol.toml").cases
    return only, json.loads((small / "run.json").read_text())["problems"][CASE]["best"]


@pytest.mark.parametrize("chunks", [8, 1])
def test_a_run_is_secant_to_at_its_defaults_on_the_seeds_order(small, ran, chunks):
    only, best = case(small)
    problem = only.problem()
    w = torch.zeros(problem.shape, requires_grad=True)
    sampler = ChunkSampler(problem.n, only.batch, chunks, seed=1)
    optimizer = SecantTO([w], sampler)
    gaps = [problem.objective(w) - best]
    for _ in range(PASSES):
        for rows in sampler:
            optimizer.zero_grad()
            problem.loss(w, torch.tensor(rows)).backward()
            optimizer.step()
        gaps.append(problem.objective(w) - best)
    np.testing.assert_allclose(curve(ran[0], f"secant-{chunks}", 1), gaps, rtol=1e-6, atol=1e-15)


class InChunks(Problem):
    """A problem whose rows are read by a `ChunkSampler`, whatever the generator says."""

    def batches(self, generator):
        return [torch.tensor(rows) for rows in self.sampler]


def test_a_peer_has_its_tuned_settings_and_the_order_of_secant_to(small, ran):
    only, best = case(small)
    problem = only.problem()
    read = InChunks(problem.name, problem.dataset, problem.model, problem.l2, only.batch)
    trials = pd.read_parquet(small / "trials.parquet")
    searched = trials[(trials.optimizer == "adam") & (trials.search == 2) & (trials.number < 32)]
    settings = json.loads(searched.sort_values("score").settings.iloc[0])
    read.sampler = ChunkSampler(problem.n, only.batch, 8, seed=1)
    rows = train(read, OPTIMIZERS["adam"], settings, 1, PASSES, best)
    gaps = [row["suboptimality"] for row in rows]
    np.testing.assert_allclose(curve(ran[0], "adam-chunks", 1, search=2), gaps, rtol=1e-3)


def test_the_tables_hold_every_pair(ran):
    out, printed = ran
    counts = pd.read_csv(out / "comparison.csv").set_index(["optimizer", "reference"])
    assert len(counts) == 3 * (17 + 3 + 17) + 17  # 17 tuned, 3 solvers, 17 on fixed chunks
    assert (counts.problems == 1).all()
    assert not counts[["win", "tie", "loss"]].to_numpy().any()  # two seeds are too few
    ends = {name: np.log10([curve(out, name, s)[-1] for s in (0, 1)]) for name in ("secant-8",)}
    cases = pd.read_csv(out / "problems.csv").set_index("optimizer")
    assert cases.loc["secant-8", "median"] == pytest.approx(ends["secant-8"].mean(), abs=1e-3)
    assert cases.loc["secant-8", "worst"] == pytest.approx(ends["secant-8"].max(), abs=1e-3)
    assert "too few seeds" in printed
    assert (out / "summary.md").read_text() == summary(out)


def test_the_clock_counts_to_a_ten_thousandth(small, ran):
    seconds = pd.read_parquet(ran[0] / "seconds.parquet").set_index("optimizer")
    assert len(seconds) == 1 + 17 + 3
    passes = []
    for seed in range(SEEDS):
        gaps = curve(ran[0], "secant-8", seed)
        passes.append(np.flatnonzero(gaps <= 1e-4 * gaps[0])[0])
    assert seconds.passes["secant"] == np.median(passes)
    tuned = pd.read_parquet(small / "runs.parquet")
    tuned = tuned[(tuned.optimizer == "schedulefree-adamw") & (tuned.budget == 32)]
    gaps = tuned.pivot_table(index="passes", columns=["search", "seed"], values="suboptimality")
    first = (gaps <= 1e-4 * gaps.iloc[0]).idxmax().where((gaps <= 1e-4 * gaps.iloc[0]).any())
    expected = first.fillna(np.inf).median()
    assert seconds.passes["schedulefree-adamw"] == expected
    assert (np.isinf(seconds.seconds) == np.isinf(seconds.passes)).all()
    assert (seconds.seconds > 0).all()


def test_the_fastest_tuned_optimizer_is_no_solver_and_not_secant_to():
    ends = {"secant": [1.0, 2.0], "adam": [5.0, np.inf], "sgd": [4.0, np.inf], "lbfgs": [3.0, 1.0]}
    found = fastest(pd.DataFrame(ends, index=["a", "b"]))
    assert found.loc["a"].tolist() == ["sgd", 4.0]
    assert found.seconds["b"] == np.inf
    assert pd.isna(found.optimizer["b"])
    rows = pd.DataFrame(ends, index=pd.Index(["a", "b"], name="problem")).rename_axis(
        columns="optimizer"
    )
    for name in ("schedulefree-sgd", "schedulefree-adamw", "momentum", "saga"):
        rows[name] = [np.nan, 1.5] if name == "saga" else np.inf
    _, (first, second, last) = clocked(rows.stack().rename("seconds").reset_index())
    assert first[:4] == ["a", "1", "SGD", "4"]
    assert second[:4] == ["b", "2", "–", "–"]
    assert last[3:5] == ["2 of 2", "2 of 2"]
    assert last[-2:] == ["1 of 2", "0 of 1"]  # L-BFGS, SAGA


def test_the_ablation_that_changes_nothing_is_secant_to(ran):
    parts = pd.read_parquet(ran[0] / "ablations.parquet")
    assert parts.groupby("variant").size().eq(SEEDS).all()
    assert len(parts) == SEEDS * len(VARIANTS)
    as_it_is = parts[parts.variant.str.endswith("as it is")].sort_values("seed").final
    ends = [np.log10(max(curve(ran[0], "secant-8", seed)[-1], 1e-14)) for seed in range(SEEDS)]
    np.testing.assert_allclose(as_it_is, ends, rtol=1e-9)


@pytest.mark.parametrize("replacement", [False, True])
def test_drawn_batches_keep_no_rows_in_their_chunk(replacement):
    drawn = Drawn(10, 4, 0, replacement)
    passes = [list(drawn), list(drawn)]
    assert [[len(batch) for batch in batches] for batches in passes] == [[4, 4, 2]] * 2
    assert passes[0] != passes[1]
    for batches in passes:
        assert (sorted(chain(*batches)) == list(range(10))) != replacement


def dense_step(pairs, gradient):
    """B⁻¹ g by the BFGS update of a dense inverse, in the order of the pairs."""
    s, y = pairs[-1]
    inverse = 2 * (s @ y) / (y @ y) * np.eye(len(s))
    for s, y in pairs:
        left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    return inverse @ gradient


@pytest.mark.parametrize(("most", "shared"), [(5, True), (5, False), (0, False)])
def test_what_is_left_without_a_part_against_numpy(most, shared):
    """Two chunks of two batches, quadratics with one Hessian each, in float64."""
    random = np.random.default_rng(0)
    hessians = [(a := random.normal(size=(4, 4))) @ a.T + np.eye(4) for _ in range(2)]
    centres, lr, passes = random.normal(size=(2, 4)), 0.02, 6
    plan = Plan.split([3, 3, 3, 1], 2)
    stale = Stale(plan, lr, most, shared)
    w = torch.zeros(4, dtype=torch.float64)
    v, points, means, pairs = np.zeros(4), [None, None], [None, None], []
    begun, radius = v, 0.0
    for step in range(4 * passes):
        chunk, last, at = step // 2 % 2, step % 2 == 1, step / 4
        gradient = hessians[chunk] @ (w.numpy() - centres[chunk])
        w = stale.step(w, torch.from_numpy(gradient))
        # The same by hand: first what is seen, then the base phase, then the move.
        begun = begun if last else v
        g = hessians[chunk] @ (v - centres[chunk])
        if last:
            u = (3 * begun + (1, 3)[chunk == 0] * v) / (4, 6)[chunk == 0]
            c = hessians[chunk] @ (u - centres[chunk])
            if points[chunk] is not None:
                s, y = u - points[chunk], c - means[chunk]
                if s @ y > 1e-6 * np.linalg.norm(s) * np.linalg.norm(y):
                    pairs = [*pairs, (s, y)][-most:] if most else []
            points[chunk], means[chunk] = u, c
        if at < 2:
            v = v - lr / (1 + at) * g
        if last and step >= 7:
            mean = 0.6 * means[0] + 0.4 * means[1]
            if not most:
                v = v - lr * mean
            else:
                start = 0.6 * points[0] + 0.4 * points[1] if shared else v
                move = start - dense_step(pairs, mean) - v
                spread = max(np.linalg.norm(v - point) for point in points)
                radius = 3 * spread if step == 7 else radius
                move *= min(1.0, radius / np.linalg.norm(move))
                radius = 3 * max(np.linalg.norm(move), spread)
                v = v + move
        np.testing.assert_allclose(w, v, rtol=1e-6, atol=1e-9)


def test_it_goes_on_where_it_was_stopped(small, ran, tmp_path):
    out, _ = ran
    runs = pd.read_parquet(out / "runs.parquet")
    for name in ("run.json", "ablations.parquet", "seconds.parquet"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    runs[runs.optimizer != "secant-1"].to_parquet(tmp_path / "runs.parquet")
    assert command(small, tmp_path).exit_code == 0
    keys = ["optimizer", "search", "seed", "passes"]
    again = pd.read_parquet(tmp_path / "runs.parquet")
    pd.testing.assert_frame_equal(
        again.sort_values(keys, ignore_index=True), runs.sort_values(keys, ignore_index=True)
    )


def test_it_writes_into_no_other_studys_folder(small):
    result = command(small, small)
    assert result.exit_code != 0
    assert "holds no results of `trainopt study secant`" in result.output.replace("\n", " ")


# The committed results --------------------------------------------------------------------------


def test_the_page_has_the_tables_of_the_committed_results():
    folder = ROOT / "results" / "secant"
    assert (folder / "summary.md").read_text() == summary(folder)
    page = (ROOT / "docs" / "secant.md").read_text()
    tables = summary(folder).strip().split("\n\n")
    for i, table in enumerate(tables):
        assert f"<!-- table {i} -->\n{table}\n<!-- end -->" in page
    counts = pd.read_csv(folder / "comparison.csv").set_index(["optimizer", "reference"])
    for chunks, words in ((8, "{} wins, {} ties, {} loss"), (4, "{} wins, {} tie, {} loss")):
        row = counts.loc[(f"secant-{chunks}", "adam")]
        assert words.format(*row[["win", "tie", "loss"]].astype(int)) in page.replace("\n", " ")


def test_both_studies_have_the_same_runs_of_secant_to():
    keys = ["problem", "seed", "passes"]
    here = pd.read_parquet(ROOT / "results" / "secant" / "runs.parquet")
    here = here[here.optimizer == "secant-8"].set_index(keys).suboptimality.sort_index()
    there = pd.read_parquet(CONVEX / "runs.parquet")
    there = there[(there.optimizer == "secant") & (there.budget == 32)].astype({"problem": str})
    there = there.set_index(keys).suboptimality.sort_index()
    assert here.index.equals(there.index)
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-14)


def test_the_page_counts_where_it_is_ahead_by_the_clock():
    rows = pd.read_csv(ROOT / "results" / "secant" / "seconds.csv")
    table = rows.pivot_table(index="problem", columns="optimizer", values="seconds")
    own = table.pop("secant")
    tuned = table.drop(columns=["lbfgs", "sag", "saga"])
    ahead, all_ahead = (own < tuned.min(axis=1)).sum(), (own < table.min(axis=1)).sum()
    page = " ".join((ROOT / "docs" / "secant.md").read_text().split())
    assert f"SecantTO is first on {ahead} of {len(own)} cases" in page
    assert f"SecantTO is first on {all_ahead} of {len(own)}: " in page
    arrived = np.isfinite(own).sum(), np.isfinite(tuned.adam).sum()
    best = np.isfinite(tuned.min(axis=1)).sum()
    assert "arrives on {} cases, ADAM on {}".format(*arrived) in page
    assert f"tuned optimizers on {best}." in page


def test_the_counts_against_adam_are_those_of_the_runs():
    """By SciPy from the two tables of runs: mean over searches, both tests, Holm by hand."""
    keys = ["problem", "seed", "search"]
    runs = pd.read_parquet(ROOT / "results" / "secant" / "runs.parquet")
    tuned = pd.read_parquet(CONVEX / "runs.parquet")
    tuned = tuned[(tuned.optimizer == "adam") & (tuned.budget == 32)].astype({"problem": str})
    ends = []
    for table in (runs[runs.optimizer == "secant-8"], tuned):
        last = table.loc[table.groupby(keys).passes.idxmax()]
        last = last.assign(final=np.log10(last.suboptimality.clip(lower=1e-14)))
        ends.append(last.groupby(["problem", "seed"]).final.mean().unstack("seed"))
    difference = (ends[0] - ends[1]).dropna().to_numpy()
    n = len(difference)
    p = np.array(
        [
            [stats.ttest_1samp(row, 0).pvalue for row in difference],
            [stats.wilcoxon(row).pvalue for row in difference],
        ]
    )
    rank = p.argsort(1).argsort(1)
    adjusted = np.array(
        [
            [max((n - r[j]) * q[j] for j in np.flatnonzero(r <= k)) for k in r]
            for q, r in zip(p, rank, strict=True)
        ]
    )
    significant = (adjusted < 0.05).all(0)
    lower = difference.mean(1) < 0
    counts = pd.read_csv(ROOT / "results" / "secant" / "comparison.csv")
    row = counts[(counts.optimizer == "secant-8") & (counts.reference == "adam")].iloc[0]
    assert row.problems == n
    assert row.win == (significant & lower).sum()
    assert row.loss == (significant & ~lower).sum()
    assert row.decades == pytest.approx(np.median(difference.mean(1)), rel=1e-3)


def test_the_readme_says_what_was_measured():
    table = pd.read_csv(ROOT / "results" / "secant" / "comparison.csv")
    row = table.set_index(["optimizer", "reference"]).loc[("secant-8", "adam")]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"on {row.win:.0f} of {row.problems:.0f} strongly convex cases and loses one" in readme
    assert row.loss == 1
    assert f"by {-row.decades:.1f} decades of F − F* in the median" in readme
