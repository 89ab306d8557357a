"""The final table of a comparison, and what removing A changes in it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from trainopt.harness.names import BASELINE
from trainopt.harness.optimizers import OPTIMIZERS
from trainopt.harness.statistics import half_width, rho


def final_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What every optimizer ended with, over its seeds: one row each, the lowest train loss first.

    Args:
        runs: rows as in runs.parquet.

    Returns:
        Columns: optimizer, title, seeds, diverged (how many runs), train_loss and its 95 %
        train_loss_half_width, suboptimality, rho against ADAM (NaN for ADAM itself, or when it
        didn't run), what learning A adds, val_loss, val_accuracy, estimator_error, state_bytes,
        ms_per_step and settings (JSON). All values are means over seeds.

        What learning A adds is measured by the runs with A removed at the same settings, seed by
        seed: added (their loss minus the optimizer's, positive when learning A helps), its 95 %
        interval added_low to added_high (NaN for one pair), and the three in percent of the loss
        with A removed, rho_added, rho_added_low and rho_added_high. All are NaN where there are no
        such runs. They and the rest of the row may have different numbers of seeds.
    """
    last = runs.loc[runs.groupby(["optimizer", "seed"]).epoch.idxmax()]
    losses = last.pivot(index="seed", columns="optimizer", values="train_loss")
    rows = []
    for name, group in last[last.optimizer.isin(list(OPTIMIZERS))].groupby("optimizer"):
        reference = _pairs(losses, str(name), "adam")
        row = {
            "optimizer": name,
            "title": OPTIMIZERS[str(name)].title,
            "seeds": len(group),
            "diverged": int((~np.isfinite(group.train_loss)).sum()),
            "train_loss": group.train_loss.mean(),
            "train_loss_half_width": half_width(group.train_loss.tolist()),
            "suboptimality": group.suboptimality.mean(),
            "rho": math.nan if name == "adam" else rho(*reference.mean()),
        }
        rows.append(
            row
            | _added(_pairs(losses, str(name), f"{name}-{BASELINE}"))
            | {
                "val_loss": group.val_loss.mean(),
                "val_accuracy": group.val_accuracy.mean(),
                "estimator_error": group.estimator_error.mean(),
                "state_bytes": int(group.state_bytes.max()),
                "ms_per_step": 1000 * (group.seconds / group.step).mean(),
                "settings": group.settings.iloc[0],
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows).sort_values("train_loss", ignore_index=True)
    return table


def _pairs(losses: pd.DataFrame, name: str, reference: str) -> pd.DataFrame:
    """The losses of the optimizer and of its reference, on the seeds that both have run."""
    pairs: pd.DataFrame = losses.reindex(columns=[name, reference]).dropna()
    return pairs


def _added(pairs: pd.DataFrame) -> dict[str, float]:
    """What learning A adds, from losses with A and with A removed."""
    with_A, without = (pairs.iloc[:, i].to_numpy(float) for i in (0, 1))
    with np.errstate(invalid="ignore"):  # both diverged: NaN
        difference = without - with_A
        mean = float(difference.mean()) if len(difference) else math.nan
    wide = half_width(difference.tolist())
    values = {"added": mean, "added_low": mean - wide, "added_high": mean + wide}
    percent = 100 / float(without.mean()) if len(without) else math.nan
    return values | {f"rho_{name}": percent * value for name, value in values.items()}
