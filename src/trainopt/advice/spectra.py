"""`trainopt study spectrum`: does the learned A find the Hessian, and does success follow it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor
from torch.optim import Optimizer

from trainopt.convex import train
from trainopt.convex.problem import Problem
from trainopt.convex.protocol import Case, read_protocol
from trainopt.convex.tables import best_settings
from trainopt.harness.folder import read_manifest, write_manifest, write_whole, writing
from trainopt.harness.markdown import markdown
from trainopt.harness.optimizers import OPTIMIZERS, Settings

CASES = ("diabetes-ridge", "breast-cancer-logistic-raw", "wine-softmax")
TITLES = {"full": "Full-TO", "secant": "SecantTO", "adam": "ADAM"}
STAGES = (1, 2, 3, 5, 10, 20, 30)
SHOWN = 10  # passes; later SecantTO is at F* to rounding, and its newest pairs are rounding too
SEEDS = 3
_TOP = 5  # directions of the largest curvature
_FACTS = ("problem", "optimizer", "seed", "passes")
Matrix = NDArray[np.float64]


def run_spectra(out: Path, convex: Path) -> str:
    """Train every case with every optimizer, compare A with H on the way, and write all.

    Full-TO and ADAM have the settings that the convex study found, SecantTO its defaults.

    Args:
        out: folder for run.json, stages.csv, eigenvalues.csv, summary.md and spectra.png.
        convex: what `trainopt study convex` wrote.

    Raises:
        InputError: `out` holds something else.
    """
    found = read_manifest(convex) or {}
    identity = {"study": "spectrum", "convex_protocol": found["protocol"]}
    with writing(out, "study spectrum", identity) as kept:
        write_manifest(out, {**identity, "seeds": SEEDS, **kept})
        stages, values = [], []
        for case in read_protocol().cases:
            if case.name in CASES:
                best = found["problems"][case.name]["best"]
                for name in TITLES:
                    settings = _settings(convex, case, name)
                    for seed in range(SEEDS):
                        rows, ends = _run(case, name, settings, seed, best)
                        stages += rows
                        values += ends
        for name, rows in (("stages", stages), ("eigenvalues", values)):
            table = pd.DataFrame(rows).to_csv(index=False, float_format="%.6g")
            write_whole(out / f"{name}.csv", table.encode())
        return write_again(out)


def write_again(out: Path) -> str:
    """Write summary.md and spectra.png from the tables; return the first."""
    from trainopt.advice.spectra_picture import draw

    table, eigenvalues = (pd.read_csv(out / f"{name}.csv") for name in ("stages", "eigenvalues"))
    text = summary(table)
    write_whole(out / "summary.md", f"{text}\n".encode())
    draw(table, eigenvalues, out / "spectra.png")
    return text


def _settings(convex: Path, case: Case, name: str) -> Settings:
    """The best settings of the study's first search; SecantTO's defaults."""
    if name == "secant":
        return {}
    trials = pd.read_parquet(convex / "trials.parquet")
    return best_settings(trials, case.name, name, read_protocol().main)[0]


def _run(
    case: Case, name: str, settings: Settings, seed: int, best: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One run: a row per stage, and all eigenvalues at the one that is shown."""
    problem = case.problem()
    rows: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    run = _passes(problem, name, settings, seed, case.passes)
    for passes, (optimizer, w) in enumerate(run, 1):
        if passes not in STAGES:
            continue
        facts = dict(zip(_FACTS, (case.name, name, seed, passes), strict=True))
        hessian = _hessian(problem.loss, w)
        learned = LEARNED[name](optimizer, w)
        gap = problem.objective(w) - best
        rows.append({**facts, "suboptimality": gap, **compare(learned, hessian)})
        if passes == SHOWN:
            pairs = zip(np.linalg.eigvalsh(hessian), _eigenvalues(learned), strict=True)
            ends.extend({**facts, "of_H": h, "of_A": a} for h, a in pairs)
    return rows, ends


def _passes(
    problem: Problem, name: str, settings: Settings, seed: int, passes: int
) -> Iterator[tuple[Optimizer, Tensor]]:
    """Train; the optimizer and the weights after every pass."""
    optimizer, w, read = train.begun(problem, OPTIMIZERS[name], settings, seed)
    for _ in train.passes(problem, optimizer, w, read, passes, settings):
        yield optimizer, w


# The learned A, dense --------------------------------------------------------------------------


def _of_full(optimizer: Any, w: Tensor) -> Matrix:
    learned: Matrix = optimizer.state[w]["A"].double().numpy()
    return learned


def _of_secant(optimizer: Any, w: Tensor) -> Matrix:
    """Column by column, as Ĝ is linear in w."""
    model = optimizer._run.model
    point = w.detach().reshape(-1)
    here = model.at(point, 0).gradient
    columns = [model.at(point + e, 0).gradient - here for e in torch.eye(len(point))]
    return torch.stack(columns, dim=1).double().numpy()


def _of_adam(optimizer: Any, w: Tensor) -> Matrix:
    """ADAM learns no A: what it divides the step by, a diagonal."""
    state = optimizer.state[w]
    beta = optimizer.param_groups[0]["betas"][1]
    moment = state["exp_avg_sq"] / (1 - beta ** state["step"].item())
    return np.diag(moment.sqrt().reshape(-1).double().numpy())


LEARNED: dict[str, Callable[[Any, Tensor], Matrix]] = {
    "full": _of_full,
    "secant": _of_secant,
    "adam": _of_adam,
}


def _hessian(loss: Callable[[Tensor], Tensor], w: Tensor) -> Matrix:
    """∇²F at the weights, (d, d)."""
    x = w.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x, create_graph=True)
    rows = [
        torch.autograd.grad(g, x, retain_graph=True)[0].reshape(-1) for g in gradient.reshape(-1)
    ]
    hessian = torch.stack(rows).numpy()
    return np.asarray((hessian + hessian.T) / 2)


# How near A is to H ------------------------------------------------------------------------------


def compare(learned: Matrix, hessian: Matrix) -> dict[str, float]:
    """How near a learned A is to the Hessian.

    Args:
        learned: A, (d, d).
        hessian: H, symmetric (d, d).

    Returns:
        error, ‖A − H‖ / ‖H‖; cosine, ⟨A, H⟩ / (‖A‖ ‖H‖), which no scale changes (0 for A = 0);
        overlap, how much of the five directions of A's largest curvature lies in H's five, in
        [0, 1]; the extreme eigenvalues of H, and of A's symmetric part.
    """
    size, own = np.linalg.norm(hessian), np.linalg.norm(learned)
    values, vectors = np.linalg.eigh(hessian)
    ours, directions = np.linalg.eigh((learned + learned.T) / 2)
    k = min(_TOP, len(values))
    return {
        "error": float(np.linalg.norm(learned - hessian) / size),
        "cosine": float((learned * hessian).sum() / (own * size)) if own else 0.0,
        "overlap": float(np.square(vectors[:, -k:].T @ directions[:, -k:]).sum() / k),
        "low_H": float(values[0]),
        "high_H": float(values[-1]),
        "low_A": float(ours[0]),
        "high_A": float(ours[-1]),
    }


def _eigenvalues(learned: Matrix) -> Matrix:
    return np.asarray(np.linalg.eigvalsh((learned + learned.T) / 2))


def summary(table: pd.DataFrame) -> str:
    """The table of one stage, and whether success follows."""
    last = table[table.passes == SHOWN]
    means = (
        last.groupby(["problem", "optimizer"], sort=False).median(numeric_only=True).reset_index()
    )
    columns = ["problem", "optimizer", f"log₁₀(F − F*) after {SHOWN}", "cos(A, H)", "‖A − H‖/‖H‖",
               "overlap of the top 5", "λ_max of H", "of A", "λ_min of H", "of A"]  # fmt: skip
    logs = last.assign(log=np.log10(last.suboptimality.clip(lower=1e-14)))
    ends = logs.groupby(["problem", "optimizer"], sort=False).log.median()
    rows = [
        [
            str(row["problem"]),
            TITLES[str(row["optimizer"])],
            f"{ends[row['problem'], row['optimizer']]:.1f}",
            *(f"{row[name]:.2f}" for name in ("cosine", "error", "overlap")),
            *(f"{row[name]:.3g}" for name in ("high_H", "high_A", "low_H", "low_A")),
        ]
        for row in means.to_dict("records")
    ]
    return f"{markdown((columns, rows))}\n\n{_followed(table)}"


def _followed(table: pd.DataFrame) -> str:
    """Whether the nearer A is, the more decades the next stage takes off."""
    ordered = table.sort_values("passes")
    keys = ["problem", "optimizer", "seed"]
    logs = np.log10(ordered.suboptimality.clip(lower=1e-14))
    after = logs.groupby([ordered[key] for key in keys]).shift(-1)
    gone = ordered.groupby(keys).passes.shift(-1) - ordered.passes
    pace = (logs - after) / gone
    sentences = []
    for name, title in TITLES.items():
        chosen = (ordered.optimizer == name) & pace.notna() & (logs > -13)
        rank = spearmanr(ordered.cosine[chosen], pace[chosen])
        sentences.append(f"{title} {rank.statistic:+.2f} (p = {rank.pvalue:.2g})")
    return (
        "Rank correlation of cos(A, H) at a stage with the decades of F − F* that a pass takes off "
        "until the next: " + ", ".join(sentences) + "."
    )
