"""`trainopt.advise`: measure a model, a loss and a loader, and say which optimizer to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .decision import decide
from .measurements import LEAST, Measurements, measure
from .objective import Objective, rows_of
from .repeats import is_affine, read
from .report import Advice
from .untouched import untouched


def advise(
    model: nn.Module,
    loss_fn: Callable[[Any, Tensor], Tensor],
    loader: Any,
    passes: float,
    *,
    weight_decay: float = 0.0,
    budget: int = 100,
    exclude: Collection[str] = (),
    memory: float | None = None,
    out: str | Path | None = None,
) -> Advice:
    """Say which optimizer to take, with which settings, and why.

        advice = trainopt.advise(model, torch.nn.CrossEntropyLoss(), loader, passes=10)
        print(advice)

    Nothing is trained: parameters, gradients, buffers, modes, random numbers and the loader are
    left as they were. For networks and linear models in one process, on the model's device.

    Args:
        model: in training mode, at its starting point; `model(*inputs)` is called. Parameters that
            require no gradient stay out of it.
        loss_fn: mean loss of a batch, from the model's output and the target.
        loader: a DataLoader, or a list, of batches (*inputs, target): tensors with the same first
            axis.
        passes: over the data that you mean to make.
        weight_decay: λ of a term (λ/2)‖w‖² of your objective. Default: 0.
        budget: mini-batch gradients to spend, at least 40; a product with the Hessian counts as
            two. Default: 100.
        exclude: optimizers that you can't take, such as "secant".
        memory: bytes that the optimizer's state may have. Default: no limit.
        out: folder for a picture and the advice as text. Needs matplotlib. Default: none.

    Returns:
        The advice: `optimizer`, `settings`, `code`, `because`, `measurements`; `print` shows all.

    Raises:
        TypeError: the loader can be read only once, or a batch isn't a tuple or list of tensors.
        ValueError: the loader is empty, nothing is to be trained, parameters are complex, the loss
            isn't finite, or an argument is out of its range.
        RuntimeError: an operation of the model can't be differentiated twice.
    """
    _check(passes=passes, weight_decay=weight_decay, budget=budget)
    params = [p for p in model.parameters() if p.requires_grad and p.numel()]
    if not params:
        raise ValueError("model has no parameters that require a gradient: nothing is to be set.")
    if any(p.is_complex() for p in params):
        raise ValueError("model has complex parameters: view them as real ones.")
    with untouched(model, params, loader):
        model.train()
        device = params[0].device
        batches, data, order = read(loader, max(4, budget // 3))
        batches = [_on(batch, device) for batch in batches]

        def loss(batch: Any) -> Tensor:
            value = loss_fn(model(*batch[:-1]), batch[-1])
            if weight_decay:
                decayed = torch.stack([p.square().sum() for p in params]).sum()
                value = value + weight_decay / 2 * decayed
            return value

        first = loss(batches[0])
        if first.numel() != 1 or not math.isfinite(first.item()):
            raise ValueError(
                f"the loss of the first batch is {first.detach()}: loss_fn must return one finite "
                "number, the mean over the batch."
            )
        seen = measure(
            Objective(params, loss, batches),
            passes=passes,
            rows=_rows(loader, batches),
            linear=_linear(model, params, batches[0]),
            matrices=_matrices(model),
            weight_decay=weight_decay,
            data=data,
            order=order,
            budget=budget,
        )
    return advice_from(seen, exclude=exclude, room=memory, out=out)


def advice_from(
    seen: Measurements,
    *,
    exclude: Collection[str] = (),
    room: float | None = None,
    out: str | Path | None = None,
    name: str = "",
) -> Advice:
    """Decide, and write the report where a folder is given."""
    optimizer, because = decide(seen, exclude=exclude, room=room)
    advice = Advice(optimizer, because, seen, name)
    if out is not None:
        advice.save(Path(out))
    return advice


def _check(passes: float, weight_decay: float, budget: int) -> None:
    if not (math.isfinite(passes) and passes > 0):
        raise ValueError(f"passes={passes} is not allowed: give a finite number > 0.")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay={weight_decay} is not allowed: give a finite number ≥ 0.")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < LEAST:
        raise ValueError(f"budget={budget!r} is not allowed: give a whole number ≥ {LEAST}.")


def _on(batch: Any, device: torch.device) -> tuple[Tensor, ...]:
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise TypeError(
            f"a batch of the loader is a {type(batch).__name__}: give batches (*inputs, target)."
        )
    for x in batch:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"a batch of the loader holds a {type(x).__name__}: give batches of tensors."
            )
    return tuple(x.to(device) for x in batch)


def _rows(loader: Any, batches: list[Any]) -> int | None:
    dataset: Any = getattr(loader, "dataset", None)
    if hasattr(dataset, "__len__"):
        return len(dataset)
    return sum(map(rows_of, loader)) if isinstance(loader, list | tuple) else None


def _linear(model: nn.Module, params: Sequence[Tensor], batch: Any) -> bool:
    output = model(*batch[:-1])
    return isinstance(output, Tensor) and is_affine(lambda: model(*batch[:-1]), params)


def _matrices(model: nn.Module) -> float:
    """The part of the weights in hidden matrices: no embedding, not the last matrix."""
    trained = [p for p in model.parameters() if p.requires_grad]
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    matrices = [p for p in trained if p.ndim == 2 and id(p) not in embeddings][:-1]
    return sum(p.numel() for p in matrices) / max(1, sum(p.numel() for p in trained))
