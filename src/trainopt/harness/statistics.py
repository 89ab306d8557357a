"""The statistics of a comparison: intervals, ρ, paired tests, and the final table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from trainopt.harness.names import BASELINE
from trainopt.harness.optimizers import OPTIMIZERS


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


def smallest_p(seeds: int, cases: int = 1, by_ranks: bool = False) -> float:
    """The smallest p that a two-sided paired test can give, after Holm's correction over cases.

    Wilcoxon's test knows signs and ranks only: all differences of one sign are 2 of the 2ⁿ sign
    patterns of n seeds. The t-test needs two seeds, and then has no smallest p.

    Args:
        seeds: number of pairs.
        cases: number of tests that the correction is for.
        by_ranks: Wilcoxon's test, not the t-test.
    """
    if by_ranks:
        return min(1.0, cases * 2.0 ** (1 - seeds))
    return 0.0 if seeds > 1 else 1.0


# What has to stand by a difference between optimizers that were tuned separately.
SEARCH_LUCK = (
    "every optimizer has the settings that its own searches found, so that a difference includes "
    "the luck of two searches, which no test over seeds sees."
)
# The verdict where no data whatever could make a win or a loss.
TOO_FEW = "too few seeds"


def counts_text(counts: pd.Series[float], form: str = "{:.0f} / {:.0f} / {:.0f}") -> str:
    """Wins, ties and losses in words: the columns win, tie and loss, or that nothing can be told.

    Args:
        counts: how many cases are of each verdict.
        form: of the words, with places for the three.
    """
    three = [counts["win"], counts["tie"], counts["loss"]]
    return form.format(*three) if sum(three) else f"{TOO_FEW} to tell"


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
