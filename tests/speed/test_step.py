"""The benchmark measures the right things: naive forms are the rules, ratios are ratios."""

import itertools
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from trainopt import DiagonalTO, FullTO, RankOneTO
from trainopt.commands import app
from trainopt.speed import guarded, naive, step, training
from trainopt.speed.workloads import WORKLOADS, parameters

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("form", "cls"),
    [(naive.diagonal, DiagonalTO), (naive.rank_one, RankOneTO), (naive.full, FullTO)],
)
def test_the_naive_forms_are_the_rules(form, cls, monkeypatch):
    for name, value in {"ALPHA": 0.01, "BETA": 0.4, "LR": 0.1}.items():
        monkeypatch.setattr(naive, name, value)
    (p,), (q,) = (parameters([(20,)], CPU) for _ in range(2))
    plain, optimizer = form([p]), cls([q], lr=0.1, alpha=0.01, beta=0.4, fused=False)
    for _ in range(4):
        plain()
        optimizer.step()
    torch.testing.assert_close(p, q)


def test_medians_leave_the_first_rounds_out(monkeypatch):
    # Two contenders, two rounds to warm up and three that count; a tick before and after each.
    durations = iter([90.0, 90.0, 80.0, 80.0, 1.0, 10.0, 3.0, 30.0, 2.0, 20.0])
    clock = itertools.accumulate(x for d in durations for x in (0.0, d))
    monkeypatch.setattr(step, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = step.seconds_of({"a": lambda: None, "b": lambda: None}, 3)
    assert found == {"a": 2.0, "b": 20.0}


def test_workloads_have_the_sizes_they_are_named_by():
    millions = {
        name: sum(torch.Size(shape).numel() for shape in build()) / 1e6
        for name, build in WORKLOADS.items()
    }
    assert millions["ResNet-18, 11 M"] == pytest.approx(11.2, abs=0.1)
    assert millions["encoder, 23 M"] == pytest.approx(22.6, abs=0.3)
    assert millions["encoder, 66 M"] == pytest.approx(66, abs=1)
    assert millions["1 000 tensors of 64"] == 0.064


def test_the_command_writes_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "WORKLOADS", {"small": lambda: [(30, 5), (7,)]})
    monkeypatch.setattr(step, "FULL_SIZES", (20,))
    monkeypatch.setattr(step, "limits", lambda device, repeats: {"copy": 10.0, "read": 20.0})

    # Two processes for an optimizer: one optimizer is enough.
    first_steps = step.first_steps
    monkeypatch.setattr(
        step, "first_steps", lambda device: itertools.islice(first_steps(device), 1)
    )

    def tiny():
        return torch.nn.Linear(3, 2), lambda model: model(torch.ones(4, 3)).square().mean()

    monkeypatch.setattr(training, "MODELS", {"linear": tiny})
    monkeypatch.setattr(guarded, "LINEAR", {})
    done = CliRunner().invoke(app, ["bench", "step", "--repeats", "1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "step.csv").set_index(["workload", "contender"])
    fused, adamw = (table.loc["small", name] for name in ("Diagonal-TO, fused", "AdamW, fused"))
    assert fused.vs_adamw == pytest.approx(fused.ms / adamw.ms, rel=1e-2)
    assert fused.gb_per_s == pytest.approx(28 * 157 / fused.ms / 1e6, rel=1e-2)
    assert fused.of_limit == pytest.approx(fused.gb_per_s / 10, rel=1e-2)
    assert fused.peak < 100  # some scalars; nothing of the size of the weights
    naive_full = ("Full-TO, d = 20", "Full-TO, naive")
    assert table.loc[naive_full, "peak"] >= 4 * 20 * 20
    shares = pd.read_csv(tmp_path / "training.csv")
    assert shares.share.between(0, 1).all()
    first = pd.read_csv(tmp_path / "first.csv")
    assert (first.warm > 0).all()
    assert "Diagonal-TO, fused" in done.output
    guard = pd.read_csv(tmp_path / "guard.csv").set_index("contender")
    assert list(guard.index) == ["Diagonal-TO", "RankOne-TO"]
    for row in guard.itertuples():
        assert row.of_step == pytest.approx(row.on_ms / row.off_ms - 1, abs=2e-2)
        more = (row.on_ms - row.off_ms) / (row.gradient_ms + row.off_ms)
        assert row.of_training == pytest.approx(more, abs=2e-2)

    before = table.reset_index().to_csv()
    again = ["speed", "--only", "guard", "--repeats", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, again)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "step.csv").to_csv() == before
