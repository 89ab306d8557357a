"""The compiled kernels of step.cpp, called with tensors."""

from __future__ import annotations

import ctypes
import itertools
from array import array
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import Batch, Rates
from .build import library
from .pending import Pending

_POINTER = ctypes.c_void_p


class _Pieces(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        *((name, _POINTER) for name in ("starts", "w", "g", "a", "b", "c", "estimate")),
    ]


class _Rates(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in ("lr", "alpha", "beta", "decay", "sign")),
        ("descends", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    ]


class _Vectors(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        *((name, _POINTER) for name in ("first", "carried", "known", "marks")),
    ]


class _Dense(ctypes.Structure):
    _fields_ = [
        ("columns", ctypes.c_int64),
        *((name, _POINTER) for name in ("x", "A", "U", "V")),
        ("pending", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
    ]


def missing(param: torch.dtype, state: torch.dtype) -> str:
    """Why there are no kernels for these dtypes; "" when there are. Compiles them when needed."""
    found = library(param, state)
    return found if isinstance(found, str) else ""


class Carried:
    """The dot products of RankOne-TO's vectors that one step leaves for the next.

    Worthless once a tensor has been written to in between, which its version says.

    Args:
        first: number of the first tensor of each vector, and the number of all tensors.
    """

    def __init__(self, first: list[int]) -> None:
        count = len(first) - 1
        self.first = array("q", first)
        self._dots = array("d", bytes(8 * 6 * count))
        self._known = array("B", bytes(count))
        self._marks = array("Q", bytes(8 * count))
        self._versions: list[list[int]] = []

    def check(self, tensors: list[list[Tensor]]) -> None:
        """Forget the dots of the vectors that aren't what `note` saw."""
        for k in range(len(self._known)):
            if self._known[k] and self._versions[k] != self._seen(k, tensors):
                self._known[k] = 0

    def note(self, tensors: list[list[Tensor]]) -> None:
        """Remember the tensors that the dots belong to."""
        self._versions = [
            self._seen(k, tensors) if known else [] for k, known in enumerate(self._known)
        ]

    def _seen(self, k: int, tensors: list[list[Tensor]]) -> list[int]:
        span = slice(self.first[k], self.first[k + 1])
        return [n for pieces in tensors for x in pieces[span] for n in (x.data_ptr(), x._version)]

    def structure(self) -> _Vectors:
        """As the kernel reads and writes it."""
        parts: list[array[Any]] = [self.first, self._dots, self._known, self._marks]
        return _Vectors(len(self._known), *map(_address, parts))


def diagonal(batch: Batch, rates: Rates) -> Tensor:
    """Diagonal-TO on all tensors, one pass: 28 bytes a weight in float32. state: a, b."""
    a, b = batch.state
    return _taken(batch, _library(batch).to_diagonal, _pieces(batch, a, b), _rates(rates))


def rank_one(batch: Batch, rates: Rates, carried: Carried) -> Tensor:
    """RankOne-TO, two passes: 44 bytes a weight, 36 in cache. state: a, c, b."""
    a, c, b = batch.state
    tensors = [batch.w, *batch.state]
    carried.check(tensors)
    squares = _taken(
        batch,
        _library(batch).to_rank_one,
        _pieces(batch, a, b, c),
        _rates(rates),
        carried.structure(),
    )
    carried.note(tensors)
    return squares


def full(batch: Batch, rates: Rates, pending: Pending, x: Tensor) -> Tensor:
    """Full-TO, one read of A. state: A, b.

    Args:
        batch: `estimate` is needed.
        rates: of the step.
        pending: the pairs beside the A of `batch`.
        x: the weights that A reads, (columns,).
    """
    A, b = batch.state
    blocks, terms = _pointers(A), _pointers(pending.U)
    dense = _Dense(
        x.numel(),
        x.data_ptr(),
        _address(blocks),
        _address(terms),
        pending.V.data_ptr(),
        pending.count,
        pending.capacity,
    )
    pieces = _pieces(batch, None, b)
    squares = _taken(batch, _library(batch).to_full, pieces, _rates(rates), dense)
    pending.count = dense.pending
    return squares


def _library(batch: Batch) -> ctypes.CDLL:
    found = library(batch.w[0].dtype, batch.state[-1][0].dtype)
    assert isinstance(found, ctypes.CDLL)
    return found


def _taken(batch: Batch, kernel: Callable[..., float], *structures: ctypes.Structure) -> Tensor:
    """Call the kernel; return ‖e‖² and tell autograd that the weights were written to."""
    squares = kernel(*map(ctypes.byref, structures))
    torch.autograd.graph.increment_version(batch.w)
    return torch.tensor(squares, dtype=torch.float64)


def _pieces(
    batch: Batch, a: list[Tensor] | None, b: list[Tensor], c: list[Tensor] | None = None
) -> _Pieces:
    starts = array("q", itertools.accumulate((w.numel() for w in batch.w), initial=0))
    lists = [
        None if tensors is None else _pointers(tensors)
        for tensors in (batch.w, batch.g, a, b, c, batch.estimate)
    ]
    addresses = [None if pointers is None else _address(pointers) for pointers in lists]
    pieces = _Pieces(len(batch.w), _address(starts), *addresses)
    pieces.kept = (starts, lists)  # what the addresses point to lives as long as they do
    return pieces


def _rates(rates: Rates) -> _Rates:
    lr = float(rates.lr)
    return _Rates(
        lr,
        float(rates.alpha),
        float(rates.beta),
        lr * rates.weight_decay,
        rates.sign,
        rates.descends,
        torch.get_num_threads(),
    )


def _pointers(tensors: list[Tensor]) -> array[int]:
    return array("q", [x.data_ptr() for x in tensors])


def _address(values: array[Any]) -> int:
    return values.buffer_info()[0]
