"""The statistics of a comparison: intervals, ρ, paired tests, and the final table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from trainopt.bench.optimizers import BASELINE, OPTIMIZERS


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of Student's interval for the mean; NaN for one value, or if one is inf."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.nan
    return float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def rho(loss: float, reference: float) -> float:
    """ρ = 100 (L_ref − L)/L_ref, the relative improvement in percent; −inf when L diverged."""
    if not math.isfinite(reference):
        return math.nan
    return 100 * (reference - loss) / reference


def paired_p(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Two-sided p-value of the paired t-test, run by run on the same seed.

    NaN for fewer than two pairs or a diverged run; 1 when all pairs are equal, 0 when all differ
    by the same amount.
    """
    difference = np.subtract(losses, reference) if np.isfinite([losses, reference]).all() else []
    if len(difference) < 2:
        return math.nan
    spread = np.ptp(difference)
    if spread == 0:
        return float(difference[0] == 0)
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def final_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What every optimizer ended with, over its seeds: one row each, the lowest train loss first.

    Args:
        runs: rows as in runs.parquet.

    Returns:
        Columns: optimizer, title, seeds, diverged (how many runs), train_loss and its 95 %
        train_loss_half_width, suboptimality, rho and p_value against ADAM, rho_alpha0 and
        p_value_alpha0 against α = 0 (NaN for that optimizer itself, or when it didn't run; both on
        train_loss over common seeds), val_loss, val_accuracy, estimator_error, state_bytes,
        ms_per_step and settings (JSON). All values are means over seeds.
    """
    last = runs.loc[runs.groupby(["optimizer", "seed"]).epoch.idxmax()]
    losses = last.pivot(index="seed", columns="optimizer", values="train_loss")
    rows = []
    for name, group in last.groupby("optimizer"):
        row = {
            "optimizer": name,
            "title": OPTIMIZERS[str(name)].title,
            "seeds": len(group),
            "diverged": int((~np.isfinite(group.train_loss)).sum()),
            "train_loss": group.train_loss.mean(),
            "train_loss_half_width": half_width(group.train_loss.tolist()),
            "suboptimality": group.suboptimality.mean(),
        }
        for reference, suffix in (("adam", ""), (BASELINE, "_alpha0")):
            row[f"rho{suffix}"], row[f"p_value{suffix}"] = _against(losses, str(name), reference)
        rows.append(
            row
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


def _against(losses: pd.DataFrame, name: str, reference: str) -> tuple[float, float]:
    if name == reference or reference not in losses:
        return math.nan, math.nan
    pairs = losses[[name, reference]].dropna()
    if pairs.empty:
        return math.nan, math.nan
    return (
        rho(pairs[name].mean(), pairs[reference].mean()),
        paired_p(pairs[name].tolist(), pairs[reference].tolist()),
    )
