"""The report: the right numbers in the table, the right curves in the pictures, one file."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from trainopt.bench import compare
from trainopt.bench.draw import save_pngs
from trainopt.bench.figures import PICTURES, curves, pictures, y_range
from trainopt.bench.folder import Folder
from trainopt.bench.report import verdict, write_report
from trainopt.bench.stats import final_table


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    compare("diabetes-ridge", "full,adam", epochs=2, seeds=3, tune=0, out=out)
    return out


def test_the_page_holds_everything_itself(results):
    page = (results / "report.html").read_text()
    assert "Plotly.newPlot" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    for title in ("Full-TO", "TO, α = 0", "ADAM"):
        assert f"<td>{title}</td>" in page
    table = final_table(pd.read_parquet(results / "runs.parquet")).set_index("optimizer")
    assert f"{table.loc['full', 'train_loss']:.5f} ± " in page
    assert "11 weights" in page
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_the_pictures_are_there_and_a_regression_has_no_accuracy(results):
    pngs = {path.stem for path in results.glob("*.png")}
    assert pngs == {"epochs", "seconds", "estimator", "validation", "overview"}
    for path in results.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_it_can_be_drawn_again(results):
    (results / "report.html").unlink()
    (results / "epochs.png").unlink()
    write_report(Folder.load(results))
    assert (results / "report.html").exists()
    assert (results / "epochs.png").exists()


def test_a_dollar_in_the_name_of_a_file_is_no_mathematics(results, tmp_path):
    runs = pd.read_parquet(results / "runs.parquet")
    save_pngs(pictures(runs)[:1], "price $x_{$-ridge", tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"epochs", "overview"}


def runs(losses):
    """Runs of one optimizer: a list of losses per seed."""
    return pd.DataFrame(
        {
            "optimizer": "sgd",
            "seed": seed,
            "epoch": epoch,
            "seconds": 0.5 * epoch,
            "suboptimality": loss,
            "val_accuracy": math.nan,
        }
        for seed, path in enumerate(losses)
        for epoch, loss in enumerate(path)
    )


def test_curves_are_geometric_means_between_the_extremes():
    (curve,) = curves(runs([[1.0, 0.01], [4.0, 0.04]]), PICTURES[0])
    np.testing.assert_allclose(curve.mean, [2.0, 0.02])
    np.testing.assert_allclose(curve.low, [1.0, 0.01])
    np.testing.assert_allclose(curve.high, [4.0, 0.04])
    by_time = curves(runs([[1.0, 0.01]]), PICTURES[1])[0]
    np.testing.assert_allclose(by_time.x, [0.5])  # a logarithmic axis has no 0


def test_diverged_parts_are_left_out():
    (curve,) = curves(runs([[1.0, 10.0, math.inf]]), PICTURES[0])
    np.testing.assert_allclose(curve.mean, [1.0, 10.0])
    assert curves(runs([[math.inf]]), PICTURES[0]) == []


def test_the_axis_ends_where_the_others_are_seen():
    good = curves(runs([[1.0, 0.5]]), PICTURES[0]) * 3
    wild = curves(runs([[1.0, 1e30]]), PICTURES[0])
    low, high = y_range([*good, *wild], log=True)
    assert low < 0.5
    assert high < 1e4


def test_verdict_names_the_winner_and_what_learning_adds(results):
    table = final_table(pd.read_parquet(results / "runs.parquet"))
    text = verdict(table)
    assert text.startswith(f"{table.title[0]} ended with the lowest")
    assert "Full-TO against the same optimizer with α = 0" in text
    table["train_loss"] = math.inf
    assert verdict(table) == "Every optimizer diverged."
