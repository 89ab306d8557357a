"""The report: the right numbers in the table, the right curves in the pictures, one file."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from trainopt import compare
from trainopt.convex.comparison_report import details, terminal_cells, verdict, write_report
from trainopt.convex.comparison_tables import final_table
from trainopt.harness.curves import PICTURES, curves, pictures, y_range
from trainopt.harness.folder import Folder
from trainopt.harness.plots import save_pngs
from trainopt.harness.terminal import rich_table


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    compare("diabetes-ridge", "full,adam", epochs=2, seeds=3, tune=0, out=out)
    return out


def test_the_page_holds_everything_itself(results):
    page = (results / "report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.(?!data:)", page)
    for title in ("Full-TO", "TO, α = 0", "ADAM"):
        assert f'<th scope="row">{title}</th>' in page
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


def finals(**losses):
    """Runs of one epoch, from the final losses by optimizer."""
    last = {"val_loss": 1.0, "val_accuracy": 0.5, "estimator_error": 1.0, "state_bytes": 8}
    return pd.DataFrame(
        {
            "optimizer": name.replace("_", "-"), "seed": seed, "step": 1, "epoch": 1,
            "seconds": 1.0, "train_loss": loss, "suboptimality": loss, "settings": "{}", **last,
        }
        for name, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds)
    )  # fmt: skip


def test_the_verdict_is_what_removing_A_changes_not_what_two_searches_found():
    """Another search of α = 0 ended 10 % higher; at the same settings it is 0.0001."""
    table = final_table(
        finals(
            diagonal=[0.5000, 0.5100],
            diagonal_alpha0=[0.5001, 0.5101],
            alpha0=[0.55, 0.56],
            adam=[0.6, 0.6],
        )
    )
    assert verdict(table, "p") == [
        "On p, Diagonal-TO ends 16 % lower than the best of the others, ADAM.",
        "Learning A makes Diagonal-TO better than α = 0.",
    ]
    text = details(table, searched=True)
    assert "the luck of their searches" in text
    assert "changes by +0.0001 [+0.0001, +0.0001] for Diagonal-TO (95 % intervals" in text
    assert text.endswith("α = 0 with a search of its own ended at 0.55500.")
    assert "p =" not in text


def test_the_verdict_says_where_seeds_tell_nothing():
    # Differences 1, 2, 3 tenths: 0.2 ± 4.3027 · 0.1/√3 (Student, 2 degrees of freedom).
    noisy = {"full": [1.0, 1.0, 1.0], "full_alpha0": [1.1, 1.2, 1.3]}
    noisy_table = final_table(finals(**noisy))
    text = details(noisy_table, searched=False)
    assert "changes by +0.2 [-0.048, +0.45] for Full-TO" in text
    assert text.endswith("These seeds can't tell that from no change.")
    assert "luck" not in text
    level = finals(full=[1.0, 1.2, 1.4], adam=[1.1, 1.3, 1.6])
    assert verdict(final_table(level), "p") == [
        "On p, Full-TO ends level, as far as seeds tell, with the best of the others, ADAM."
    ]
    other = finals(**noisy, alpha0=[0.9, 0.9, 0.9], adam=[0.8, 0.8, 0.8])
    assert verdict(final_table(other), "p") == [
        "On p, ADAM ends 20 % lower than the best Trainable Optimizer, Full-TO.",
        "Learning A gains nothing over α = 0.",
    ]
    one = details(final_table(finals(full=[1.0], full_alpha0=[1.2])), searched=False)
    assert "changes by +0.2 for Full-TO" in one
    assert one.endswith("That is too few seeds to tell it from no change.")


def test_the_verdict_with_divergence():
    assert verdict(final_table(finals(full=[math.inf])), "p") == ["On p, every optimizer diverged."]
    half = finals(full=[1.0, 1.0], full_alpha0=[math.inf, 1.0], rankone=[math.inf], sgd=[2.0])
    text = details(final_table(half), searched=True)
    assert "changes by ∞ for Full-TO" in text


def test_no_p_value_is_printed(results):
    page = (results / "report.html").read_text()
    assert not re.search(
        r"<th>p</th>|\bp (=|&lt;)", re.sub(r"<script.*?</script>", "", page, flags=re.S)
    )
    console = Console(width=200)
    with console.capture() as shown:
        cells = terminal_cells(final_table(pd.read_parquet(results / "runs.parquet")))
        console.print(rich_table(cells))
    header = shown.get().splitlines()[0].split()
    assert "p" not in header
    assert "learning" in header
