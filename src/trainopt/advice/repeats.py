"""Do the same rows give the same gradient?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from .objective import Batch, Objective, equal, part, rows_of

# A sum in another order changes float32 gradients by 1e-6, and bfloat16 ones by 1e-2.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.03}


@dataclass(frozen=True)
class Repeats:
    """Whether rows have gradients of their own.

    Attributes:
        twice: ‖g₁ − g₂‖ / ‖g₁‖ of one mini-batch, taken twice: dropout and the like.
        halves: ‖g − (g_first half + g_second half)/2‖ / ‖g‖: batch norm and the like, where a
            row's gradient depends on the rows beside it; also a loss that is no mean over rows.
        data: whether the data set gave the same numbers twice: augmentation; None: not known.
        order: whether two passes began with the same mini-batch; None: not known.
        tolerance: of the first two.
    """

    twice: float
    halves: float
    data: bool | None
    order: bool | None
    tolerance: float

    @property
    def exact(self) -> bool:
        """Whether a row's gradient is the same at every visit, whichever rows are beside it."""
        return max(self.twice, self.halves) <= self.tolerance and self.data is not False


def repeats(objective: Objective, data: bool | None, order: bool | None) -> Repeats:
    """Take the gradient of the first mini-batch twice, and of its halves; costs three gradients.

    Random numbers go on between the two, as they do in training.
    """
    batch = objective.batches[0]
    first, second = objective.gradient(batch), objective.gradient(batch)
    size = max(first.norm().item(), 1e-30)
    half, n = rows_of(batch) // 2, rows_of(batch)
    apart = 0.0
    if half:
        head = objective.gradient(part(batch, slice(0, half)))
        rest = objective.gradient(part(batch, slice(half, n)))
        apart = (second - (head * half + rest * (n - half)) / n).norm().item() / size
    return Repeats(
        twice=(first - second).norm().item() / size,
        halves=apart,
        data=data,
        order=order,
        tolerance=TOLERANCE.get(first.dtype, 1e-3),
    )


def read(loader: Any, count: int) -> tuple[list[Batch], bool | None, bool | None]:
    """Mini-batches of a loader; whether its data repeat; whether its order does.

    Args:
        loader: a DataLoader, or any iterable that can be read several times.
        count: the most batches to read.

    Raises:
        TypeError: it can be read only once.
        ValueError: it is empty.
    """
    if iter(loader) is loader:
        raise TypeError(
            f"loader={loader!r} can be read only once: give the DataLoader, or a list of batches."
        )
    batches = list(islice(loader, count))
    if not batches:
        raise ValueError("loader has no batches: give one with at least one.")
    again = next(iter(loader))
    order = equal(batches[0], again)
    data = _same_items(getattr(loader, "dataset", None))
    return batches, (order or None) if data is None else data, order


def _same_items(dataset: Any) -> bool | None:
    """Whether some items of a data set are the same when they are read again."""
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return None
    numbers = range(min(3, len(dataset)))
    return all(_same(dataset[i], dataset[i]) for i in numbers)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return all(_same(x, y) for x, y in zip(one, other, strict=True))
    if isinstance(one, dict):
        return all(_same(one[key], other[key]) for key in one)
    found: Any = one == other
    return bool(found.all()) if hasattr(found, "all") else bool(found)


def is_affine(outputs: Callable[[], Tensor], params: Sequence[Tensor], seed: int = 0) -> bool:
    """Whether a model's outputs are affine in its weights, along one random line.

    Three points at equal distance, with the same random numbers: f₀ − 2f₁ + f₂ must vanish. The
    weights are put back.
    """
    kept = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(seed)
    steps = [torch.randn(p.shape, generator=generator).to(p) for p in params]
    found = []
    with torch.no_grad():
        for i in range(3):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                found.append(outputs().double())
            for p, start, step in zip(params, kept, steps, strict=True):
                p.copy_(start + (i + 1) * step if i < 2 else start)
    bend = (found[0] - 2 * found[1] + found[2]).norm()
    tolerance = 100 * torch.finfo(params[0].dtype).eps
    return bool(bend <= tolerance * max(x.norm() for x in found))
