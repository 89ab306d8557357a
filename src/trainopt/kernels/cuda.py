"""The rules as Triton kernels: one launch for all tensors of a group, two for RankOne-TO.

A program does `_BLOCK` numbers of one tensor; tables on the device say of which one, and where its
memory is. With TRITON_INTERPRET=1 the same kernels run on CPU tensors, which is how they are tested
where there is no GPU.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import NO_MEMORY, SHARED_MEMORY, Batch, StepRates, computed_in

DEVICE = "cuda"
_BLOCK = 1024
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def missing(param: torch.dtype, state: torch.dtype) -> str:
    """Why there are no kernels for these dtypes; "" when there are."""
    if importlib.util.find_spec("triton") is None:
        return "Triton isn't installed"
    if not {param, state} <= set(_DTYPES):
        return f"there are none for {param} with a state in {state}"
    return ""


class Prepared(NamedTuple):
    """A batch as the kernels read it; good for one call, while nothing moves."""

    batch: Batch
    addresses: tuple[tuple[int, ...], ...]


def prepare(batch: Batch) -> Prepared | str:
    """Return what the kernels take, or why they can't have this memory.

    The caller has checked shapes, dtypes, devices and layouts; only addresses are looked at here.
    """
    a, *c, b = batch.state
    lists = (batch.w, batch.g, a, b, c[0] if c else None, batch.estimate)
    addresses = [tuple(x.data_ptr() for x in tensors or ()) for tensors in lists]
    widths = tuple(tensors[0].element_size() if tensors else 0 for tensors in lists)
    sizes = tuple(w.numel() for w in batch.w)
    return _unfit(tuple(addresses), widths, sizes) or Prepared(
        batch, tuple(row or (0,) * len(sizes) for row in addresses)
    )


def gradient_norm(prepared: Prepared) -> Tensor:
    """‖g‖ over all tensors, one pass over them: inf where its square is beyond float32."""
    gradients = prepared.batch.g
    norms = torch._foreach_norm(gradients, 2, computed_in(gradients[0].dtype, torch.float32))
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def diagonal(prepared: Prepared, rates: StepRates) -> Tensor:
    """Diagonal-TO on all tensors, one pass: 28 bytes a weight in float32. state: a, b."""
    from .triton_rules import diagonal_kernel

    batch = prepared.batch
    tables = _tables(prepared)
    squares = _partial(batch, tables.programs)
    diagonal_kernel[(tables.programs,)](
        *_common(batch, rates, tables), squares, **_constants(batch, rates)
    )
    return squares.sum().sqrt()


def rank_one(prepared: Prepared, rates: StepRates) -> Tensor:
    """RankOne-TO, two passes: 56 bytes a weight in float32. state: a, c, b."""
    from .triton_rules import dots_kernel, rank_one_kernel

    batch = prepared.batch
    tables = _tables(prepared)
    common, constants = _common(batch, rates, tables), _constants(batch, rates)
    partial = _partial(batch, tables.programs, 5)
    dots_kernel[(tables.programs,)](*common, partial, **constants)
    # In the order of the programs, so that a run can be repeated bit for bit.
    dots = torch.segment_reduce(partial, "sum", lengths=tables.lengths, axis=0)
    squares = _partial(batch, tables.programs)
    rank_one_kernel[(tables.programs,)](*common, dots, squares, **constants)
    return squares.sum().sqrt()


class _Tables(NamedTuple):
    """Where everything is, on the device.

    Attributes:
        addresses: of w, g, a, b, c and the estimate of every tensor, (6, tensors); 0 for none.
        places: for every program its tensor, its first number and its vector, (3, programs).
        sizes: numbers of every tensor.
        lengths: programs of every vector.
        programs: how many.
    """

    addresses: Tensor
    places: Tensor
    sizes: Tensor
    lengths: Tensor
    programs: int


def _tables(prepared: Prepared) -> _Tables:
    batch, addresses = prepared
    device = batch.w[0].device
    sizes = tuple(w.numel() for w in batch.w)
    places, lengths = _places(sizes, tuple(batch.first), device)
    return _Tables(
        _on_device(tuple(itertools.chain(*addresses)), device).view(6, -1),
        places,
        _on_device(sizes, device),
        lengths,
        places.shape[1],
    )


@functools.lru_cache(maxsize=64)
def _unfit(
    addresses: tuple[tuple[int, ...], ...], widths: tuple[int, ...], sizes: tuple[int, ...]
) -> str:
    """Why kernels can't have this memory; "" when they can. A row each for w, g, a, b, c, Ĝ."""
    ranges = sorted(
        (begin, begin + size * width, row != 1)
        for row, (begins, width) in enumerate(zip(addresses, widths, strict=True))
        for begin, size in zip(begins, sizes if begins else (), strict=True)
        if size
    )
    if any(begin == 0 for begin, _, _ in ranges):
        return NO_MEMORY
    end = written_end = 0
    for begin, stop, written in ranges:
        if begin < (end if written else written_end):
            return SHARED_MEMORY
        end = max(end, stop)
        written_end = max(written_end, stop if written else 0)
    return ""


@functools.lru_cache(maxsize=64)
def _on_device(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Copied once as long as nothing moves, so that a CUDA graph captures no copy."""
    return torch.tensor(numbers, dtype=torch.int64, device=device)


@functools.lru_cache(maxsize=64)
def _places(
    sizes: tuple[int, ...], first: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    rows = []
    lengths = []
    for vector, (start, stop) in enumerate(itertools.pairwise(first)):
        of_vector = [
            (tensor, at, vector)
            for tensor in range(start, stop)
            for at in range(0, sizes[tensor], _BLOCK)
        ]
        rows += of_vector
        lengths.append(len(of_vector))
    columns = torch.tensor(rows, dtype=torch.int64, device="cpu").view(-1, 3).T.contiguous()
    return columns.to(device), torch.tensor(lengths, dtype=torch.int64, device=device)


def _partial(batch: Batch, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float64, device=batch.w[0].device)


def _common(batch: Batch, rates: StepRates, tables: _Tables) -> list[Any]:
    """What every kernel takes first: the tables, the number of tensors, and the rates."""
    device = batch.w[0].device
    numbers = (rates.lr, rates.alpha, rates.beta, rates.weight_decay, rates.sign)
    if any(isinstance(number, Tensor) and number.is_cuda for number in numbers):
        values = torch.stack([torch.as_tensor(n, device=device).double() for n in numbers])
    else:
        given = [float(n) for n in numbers]
        values = torch.tensor(given, dtype=torch.float64, device="cpu").to(device)
    return [tables.addresses, tables.places, tables.sizes, values, len(batch.w), tables.programs]


def _constants(batch: Batch, rates: StepRates) -> dict[str, Any]:
    from .triton_rules import LANGUAGE_DTYPES

    state = batch.state[-1][0].dtype
    return {
        "P": LANGUAGE_DTYPES[batch.w[0].dtype],
        "S": LANGUAGE_DTYPES[state],
        "T": LANGUAGE_DTYPES[computed_in(batch.w[0].dtype, state)],
        "KEEPS": batch.estimate is not None,
        "DESCENDS": rates.descends,
        "BLOCK": _BLOCK,
        "enable_fp_fusion": True,  # Triton's default, which changes with its versions
    }
