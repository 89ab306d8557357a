"""A problem of the user's own: a function that returns a model, data and a loss."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from trainopt.deep.protocol import read_protocol
from trainopt.deep.task import Loss, Ready, Rows, split
from trainopt.deep.tasks import TASKS, Size
from trainopt.deep.world import Deep, device_of
from trainopt.errors import InputError

Data: TypeAlias = Sequence[Tensor] | Dataset[Any]
Problem: TypeAlias = Callable[[], tuple[Any, ...]]
"""Returns model, data and loss, and validation data where there are some."""

DEFAULT = ("diagonal", "adamw", "adamw-diagonal", "momentum")
_LEAST = 16  # rows
_PART = 8  # one row in so many is kept for tuning, one for validation
_PROBE = 512  # rows that ∇F is measured on, at most


def own_world(
    problem: Problem,
    optimizers: Sequence[str] | None,
    *,
    epochs: int,
    batch_size: int,
    seeds: int,
    tune: int,
    size: Size,
) -> Deep:
    """A study of this one problem by the deep study's protocol.

    Args:
        problem: the function; see `trainopt.comparison.compare`.
        optimizers: names; None: `DEFAULT`.
        epochs: passes over the training rows.
        batch_size: rows in a mini-batch.
        seeds: final runs per optimizer.
        tune: trials per optimizer.
        size: where to run, "cpu" or "gpu".

    Raises:
        InputError: something given, or that the function returns, can't be used.
    """
    name = _name(problem)
    ready = _ready(problem, name)
    rows = len(ready.train)
    steps = epochs * (rows // batch_size)
    protocol = read_protocol(size=size).planned(name, rows, steps, batch_size)
    described = f"{protocol.digest}/{_fingerprint(ready)}"
    protocol = replace(protocol, digest=hashlib.sha256(described.encode()).hexdigest())
    chosen = DEFAULT if optimizers is None else optimizers
    counted = protocol.with_counts([*chosen, protocol.reference], tune, seeds)
    return Deep(counted, ready.to(device_of(size)))


def _name(problem: Problem) -> str:
    name = re.sub(r"\W+", "-", getattr(problem, "__name__", "")).strip("-") or "problem"
    if name in TASKS:
        raise InputError(f"Your function is called {name}, as a task is: give it another name.")
    return name


def _ready(problem: Problem, name: str) -> Ready:
    model, data, function, validation = _returned(problem, name)
    rows = _rows(data, name)
    if len(rows) < _LEAST:
        raise InputError(f"The data of {name} have {len(rows)} rows: give at least {_LEAST}.")
    kept = len(rows) // _PART
    own = validation is not None
    parts = split(rows, kept, 0 if own else kept, min(kept, _PROBE))
    if own:
        parts["validation"] = _rows(validation, name)
    loss = Loss(
        mean=function,
        total=lambda outputs, targets: function(outputs, targets) * targets.numel(),
        right=_right,
    )
    some = rows[: min(4, len(rows))]
    value = function(model(*some.inputs), some.targets)
    if not (isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad):
        said = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise InputError(
            f"The loss of {name} gives {said}: return the mean over the mini-batch, a tensor of "
            "shape () that depends on the model's parameters."
        )
    facts = {
        "title": name.replace("_", " "),
        "description": "a problem of your own",
        "data": f"{len(rows)} rows of your own",
    }
    return Ready(**parts, model=_Model(problem), tokens=1, facts=facts, loss=loss)


@dataclass(frozen=True)
class _Model:
    """The model of a fresh call: what is random in it comes from torch's seed, which is set."""

    problem: Problem

    def __call__(self) -> nn.Module:
        model: nn.Module = self.problem()[0]
        return model


def _returned(problem: Problem, name: str) -> tuple[nn.Module, Data, Any, Data | None]:
    torch.manual_seed(0)
    found = problem()
    if not isinstance(found, tuple) or len(found) not in (3, 4):
        raise InputError(
            f"{name}() returns {type(found).__name__}, not (model, data, loss) or "
            "(model, data, loss, validation data): return these."
        )
    model, data, loss, *more = found
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{name}() returns {type(model).__name__} as the model: return an nn.Module."
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(f"The model of {name} has no parameter that is trained: give it some.")
    if not callable(loss):
        raise InputError(
            f"{name}() returns {loss!r} as the loss: return a function of outputs and targets, "
            "such as torch.nn.functional.mse_loss."
        )
    return model, data, loss, more[0] if more else None


def _rows(data: Any, name: str) -> Rows:
    """Tensors of one length, or the items of a data set; the targets are the last of them."""
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset) and hasattr(data, "__len__"):
        items = default_collate([data[i] for i in range(len(data))]) if len(data) else ()
        data = tuple(items) if isinstance(items, tuple | list) else ()
    if (
        not isinstance(data, tuple | list)
        or len(data) < 2
        or not all(isinstance(x, Tensor) and x.ndim for x in data)
        or len({len(x) for x in data}) != 1
    ):
        raise InputError(
            f"The data of {name} can't be read: return tensors (inputs, targets) of one length, or "
            "a torch data set with a length whose items are (inputs, targets)."
        )
    return Rows(tuple(data[:-1]), data[-1])


def _right(outputs: Any, targets: Tensor) -> float:
    """How many classes are right, in torch's layout (n, classes, …); NaN for anything else."""
    if (
        isinstance(outputs, Tensor)
        and not targets.is_floating_point()
        and outputs.ndim == targets.ndim + 1
    ):
        return (outputs.argmax(1) == targets).sum().item()
    return math.nan


def _fingerprint(ready: Ready) -> str:
    """SHA-256 in hex of all rows and of the model at the seed 0: what a folder is of."""
    torch.manual_seed(0)
    found = hashlib.sha256()
    rows = (ready.train, ready.tune, ready.validation, ready.probe)
    tensors = [x for part in rows for x in (*part.inputs, part.targets)]
    for x in (*tensors, *ready.model().state_dict().values()):
        found.update(f"{x.dtype}{tuple(x.shape)}".encode())
        found.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
