"""One run: a task, an optimizer, its settings and a seed make a table with a row per mark."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainopt import Estimated
from trainopt.deep.alignment import alignment
from trainopt.deep.task import CROSS_ENTROPY, Loss, Ready, Rows, mean_loss
from trainopt.harness.memory_use import state_bytes
from trainopt.harness.optimizers import SCHEDULES, Entry, Named, Settings

Row = dict[str, Any]

_NONE = dict.fromkeys(
    ("estimator_error", "estimator_cos", "gradient_error", "gradient_cos"), math.nan
)
_ROWS, _TARGETS = 128, 16_384  # no more are evaluated at once


@dataclass(frozen=True)
class Plan:
    """What a run is, but for its optimizer and seed.

    Attributes:
        steps: of training.
        batch: rows in a mini-batch.
        marks: steps after which the model is judged, ascending; the last is `steps`.
        probes: those marks at whose step the estimates are compared with ∇F.
    """

    steps: int
    batch: int
    marks: tuple[int, ...]
    probes: tuple[int, ...] = ()

    @classmethod
    def of(cls, steps: int, batch: int, marks: int, probe_every: int) -> Plan:
        """A plan with evenly spread marks, and a probe at every so many of them."""
        at = tuple(sorted({max(1, round(steps * (i + 1) / marks)) for i in range(marks)}))
        return cls(steps, batch, at, at[probe_every - 1 :: probe_every])

    def only_end(self) -> Plan:
        """The same, judged at its end only."""
        return Plan(self.steps, self.batch, (self.steps,))


def train(
    task: Ready, judged: Rows, entry: Entry, settings: Settings, seed: int, plan: Plan
) -> list[Row]:
    """Train from the task's starting point; return a row for the start and one per mark.

    The seed decides what is random in the starting point and the order of the rows, and nothing
    else, so that all optimizers with one seed start alike and see the same mini-batches.

    Args:
        task: with its rows on the device that is to be used.
        judged: rows that the validation columns are measured on.
        entry: the optimizer.
        settings: a value for each of `entry.settings`.
        seed: of the run.
        plan: steps, batch and when to judge.

    Returns:
        Rows with step, examples, tokens, seconds (of training alone; the process's own on the CPU,
        so that other work on the machine doesn't count), train_loss (mean of the
        mini-batches since the last mark; NaN at the start), val_loss, val_accuracy (share of right
        targets), estimator_error ‖Ĝ − ∇F‖²/‖∇F‖² and estimator_cos cos(Ĝ, ∇F) with ∇F on
        `task.probe` (NaN between probes), gradient_error and gradient_cos (the same of the
        mini-batch gradient), and state_bytes. When the loss is no longer finite, the run has
        diverged: its losses are inf from there on.
    """
    torch.manual_seed(seed)
    device = judged.targets.device
    model = task.model().to(device)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    optimizer = entry.build(named, settings)
    base = [group["lr"] for group in optimizer.param_groups]
    # A schedule ends at the last step of the run.
    per_pass, end = max(1, len(task.train) // plan.batch), max(1, plan.steps - 1)
    factor = SCHEDULES[settings["lr_schedule"]](1.0, per_pass, end)
    batches = _batches(task.train, plan.batch, seed)
    rows: list[Row] = []
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds, losses, since = 0.0, torch.zeros((), device=device), 0

    def judge(step: int, compared: dict[str, float]) -> None:
        with _judging(model, optimizer):
            loss, accuracy = evaluate(model, judged, task.loss)
        rows.append(
            {
                "step": step,
                "examples": step * plan.batch,
                "tokens": step * plan.batch * task.tokens,
                "seconds": seconds,
                "train_loss": losses.item() / since if since else math.nan,
                "val_loss": loss,
                "val_accuracy": accuracy,
                **compared,
                "state_bytes": _bytes(optimizer),
            }
        )

    judge(0, _NONE)
    model.train()
    for step in range(plan.steps):
        probed = step + 1 in plan.probes
        full = full_gradient(model, named, task.probe, task.loss) if probed else []
        batch = next(batches)
        start = clock()
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor(float(step))
            if "keep_estimate" in group:  # a Trainable Optimizer on its own
                group["keep_estimate"] = probed
        optimizer.zero_grad()
        with _autocast(device):
            loss = mean_loss(model, batch, task.loss)
        loss.backward()  # type: ignore[no-untyped-call]
        seen = [_gradient_of(p).clone() for _, p in named] if probed else []
        optimizer.step()
        losses, since = losses + loss.detach(), since + 1
        if step + 1 in plan.marks:
            losses.item()  # waits for a GPU
        seconds += clock() - start
        if step + 1 in plan.marks:
            judge(step + 1, _compared(entry, optimizer, named, seen, full) if probed else _NONE)
            losses, since = torch.zeros((), device=device), 0
            if not math.isfinite(rows[-1]["val_loss"]):
                break
    return rows + _after_divergence(rows, plan, task.tokens)


def full_gradient(
    model: nn.Module, named: Named, probe: Rows, loss: Loss = CROSS_ENTROPY
) -> list[Tensor]:
    """∇F on the probe rows, at the present weights; the model's buffers stay as they are.

    The model is in training mode, so batch normalisation takes the statistics of the pieces that
    the rows come in.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    params = [p for _, p in named]
    total = [torch.zeros_like(p) for p in params]
    for piece in _pieces(probe):
        gradients = torch.autograd.grad(mean_loss(model, piece, loss), params)
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_.add_(gradient, alpha=len(piece) / len(probe))
    for buffer, kept in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(kept)
    return total


@torch.no_grad()
def evaluate(model: nn.Module, rows: Rows, loss: Loss = CROSS_ENTROPY) -> tuple[float, float]:
    """The mean loss and the share of right targets; inf and NaN when the loss isn't finite."""
    total = right = 0.0
    with _autocast(rows.targets.device):
        for piece in _pieces(rows):
            outputs = model(*piece.inputs)
            total += loss.total(outputs, piece.targets).item()
            right += loss.right(outputs, piece.targets)
    if not math.isfinite(total):
        return math.inf, math.nan
    count = rows.targets.numel()
    return total / count, right / count


def _batches(rows: Rows, size: int, seed: int) -> Iterator[Rows]:
    """Mini-batches without end: one permutation of the rows after another; the rest is left out."""
    generator = torch.Generator().manual_seed(seed)
    device = rows.targets.device
    while True:
        order = torch.randperm(len(rows), generator=generator).to(device)
        for start in range(0, len(rows) - size + 1, size):
            yield rows[order[start : start + size]]


def _pieces(rows: Rows) -> Iterator[Rows]:
    """The rows, as many at once as memory allows."""
    size = max(1, min(_ROWS, _TARGETS * len(rows) // rows.targets.numel()))
    return (rows[slice(start, start + size)] for start in range(0, len(rows), size))


@contextmanager
def _judging(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Evaluation mode, at the averaged weights of a schedule-free optimizer."""
    averages: Any = optimizer if hasattr(optimizer, "eval") else None
    model.eval()
    if averages is not None:
        averages.eval()
    yield
    if averages is not None:
        averages.train()
    model.train()


def _compared(
    entry: Entry,
    optimizer: Optimizer,
    named: Named,
    seen: Sequence[Tensor],
    full: Sequence[Tensor],
) -> dict[str, float]:
    estimate = [
        entry.direction(optimizer, p, gradient)
        for (_, p), gradient in zip(named, seen, strict=True)
    ]
    error, cosine = alignment(estimate, full)
    noise, agreement = alignment(seen, full)
    return {
        "estimator_error": error,
        "estimator_cos": cosine,
        "gradient_error": noise,
        "gradient_cos": agreement,
    }


def _gradient_of(param: nn.Parameter) -> Tensor:
    assert param.grad is not None
    return param.grad


def _autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU, nothing on the CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _bytes(optimizer: Optimizer) -> int:
    if isinstance(optimizer, Estimated):
        return sum(optimizer.memory())
    return state_bytes(optimizer)


def _after_divergence(rows: list[Row], plan: Plan, tokens: int) -> list[Row]:
    """Rows for the marks that a diverged run never saw."""
    return [
        {
            **rows[-1],
            **_NONE,
            "step": mark,
            "examples": mark * plan.batch,
            "tokens": mark * plan.batch * tokens,
            "train_loss": math.inf,
        }
        for mark in plan.marks
        if mark > rows[-1]["step"]
    ]
