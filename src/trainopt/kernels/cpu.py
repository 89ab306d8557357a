"""The compiled kernels of step.cpp, called with tensors."""

from __future__ import annotations

import ctypes
import itertools
import math
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import NO_MEMORY, SHARED_MEMORY, Batch, StepRates
from .build import library

DEVICE = "cpu"
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
    _fields_ = [("count", ctypes.c_int64), ("first", _POINTER)]


class _Dense(ctypes.Structure):
    _fields_ = [("columns", ctypes.c_int64), ("x", _POINTER)]


class Prepared(NamedTuple):
    """A batch as the kernels read it; good for one call, while nothing moves."""

    batch: Batch
    kernels: ctypes.CDLL
    pieces: _Pieces


def missing(param: torch.dtype, state: torch.dtype) -> str:
    """Why there are no kernels for these dtypes; "" when there are. Compiles them when needed."""
    found = library(param, state)
    return found if isinstance(found, str) else ""


def prepare(batch: Batch) -> Prepared | str:
    """Return what the kernels take, or why they can't have this memory.

    The caller has checked shapes, dtypes, devices and layouts; only addresses are looked at here.
    """
    kernels = library(batch.w[0].dtype, batch.state[-1][0].dtype)
    assert isinstance(kernels, ctypes.CDLL)
    pieces = _pieces(batch)
    columns = 1 if batch.x is None else batch.x.numel()
    found = kernels.to_check(ctypes.byref(pieces), ctypes.c_int64(columns))
    if found:
        return (NO_MEMORY, SHARED_MEMORY)[found - 1]
    return Prepared(batch, kernels, pieces)


def gradient_norm(prepared: Prepared) -> Tensor:
    """‖g‖ over all tensors, one pass over them: inf where squares overflow in what computes."""
    threads = ctypes.c_int32(torch.get_num_threads())
    squares = prepared.kernels.to_gradient(ctypes.byref(prepared.pieces), threads)
    return _norm(squares)


def diagonal(prepared: Prepared, rates: StepRates) -> Tensor:
    """Diagonal-TO on all tensors, one pass: 28 bytes a weight in float32. state: a, b."""
    return _taken(prepared, prepared.kernels.to_diagonal, rates)


def rank_one(prepared: Prepared, rates: StepRates) -> Tensor:
    """RankOne-TO, two passes: 56 bytes a weight in float32, 36 in cache. state: a, c, b."""
    first = array("q", prepared.batch.first)
    vectors = _Vectors(len(first) - 1, _address(first))
    return _taken(prepared, prepared.kernels.to_rank_one, rates, vectors)


def full(prepared: Prepared, rates: StepRates) -> Tensor:
    """Full-TO, one pass over A. state: A, b; the estimate is needed."""
    x = prepared.batch.x
    assert x is not None
    return _taken(prepared, prepared.kernels.to_full, rates, _Dense(x.numel(), x.data_ptr()))


def _taken(
    prepared: Prepared, kernel: Callable[..., float], rates: StepRates, *more: ctypes.Structure
) -> Tensor:
    """Call the kernel; return ‖e‖."""
    structures = (prepared.pieces, _rates(rates), *more)
    return _norm(kernel(*map(ctypes.byref, structures)))


def _norm(squares: float) -> Tensor:
    return torch.scalar_tensor(math.sqrt(squares), dtype=torch.float64, device="cpu")


def _pieces(batch: Batch) -> _Pieces:
    starts = array("q", itertools.accumulate((w.numel() for w in batch.w), initial=0))
    a, *c, b = batch.state
    lists = [
        None if tensors is None else array("q", [x.data_ptr() for x in tensors])
        for tensors in (batch.w, batch.g, a, b, c[0] if c else None, batch.estimate)
    ]
    addresses = [None if pointers is None else _address(pointers) for pointers in lists]
    pieces = _Pieces(len(batch.w), _address(starts), *addresses)
    pieces.kept = (starts, lists)  # what the addresses point to lives as long as they do
    return pieces


def _rates(rates: StepRates) -> _Rates:
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


def _address(values: array[Any]) -> int:
    return values.buffer_info()[0]
