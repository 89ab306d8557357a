"""A table that is written piece by piece, and read again."""

import pandas as pd

from trainopt.harness.growing import Growing


def test_what_was_added_is_there_for_the_next_command(tmp_path):
    path = tmp_path / "runs.parquet"
    table = Growing(path, ("problem", "optimizer"))
    assert table.there == set()
    table.add(pd.DataFrame())
    assert not path.exists()
    pieces = [
        pd.DataFrame(
            {"problem": ["x"] * 2, "optimizer": [name] * 2, "seed": [0, 1], "gap": [gap, 0.5]}
        )
        for name, gap in (("adam", 1e-300), ("sgd", float("inf")))
    ]
    for count, piece in enumerate(pieces, 1):
        table.add(piece)
        pd.testing.assert_frame_equal(
            pd.read_parquet(path), pd.concat(pieces[:count], ignore_index=True)
        )
    again = Growing(path, ("problem", "optimizer"))
    assert again.there == {("x", "adam"), ("x", "sgd")}
    pd.testing.assert_frame_equal(again.rows, table.rows)
