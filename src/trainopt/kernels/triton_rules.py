"""The kernels of cuda.py in Triton's language. P, S, T: dtypes of weights, state, arithmetic."""
# Triton reads this file's functions as source, and they call nothing but one another.
# mypy: ignore-errors

from __future__ import annotations

import torch
import triton
import triton.language as tl

LANGUAGE_DTYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


@triton.jit
def _place(places, sizes, programs, BLOCK: tl.constexpr):
    """The tensor of this program, its numbers j, and which of them it has."""
    i = tl.program_id(0)
    tensor = tl.load(places + i)
    j = tl.load(places + programs + i) + tl.arange(0, BLOCK)
    return i, tensor, j, j < tl.load(sizes + tensor)


@triton.jit
def _at(addresses, row, tensor, count, j, N: tl.constexpr):
    """Pointers to the numbers j of a tensor, in a row of the table of addresses."""
    return tl.load(addresses + row * count + tensor).to(tl.pointer_type(N)) + j


@triton.jit
def _read(pointers, inside, T: tl.constexpr):
    return tl.load(pointers, inside, 0.0).to(T)


@triton.jit
def _finish(
    addresses, tensor, count, j, inside, i, rates, squares, w_at, w, e, estimate,
    P: tl.constexpr, S: tl.constexpr, T: tl.constexpr,
    KEEPS: tl.constexpr, DESCENDS: tl.constexpr,
):  # fmt: skip
    """Keep the estimate, descend along it, and leave ‖e‖² of the program."""
    lr, decay = tl.load(rates).to(T), tl.load(rates + 3).to(T)
    if KEEPS:
        tl.store(_at(addresses, 5, tensor, count, j, T), estimate, inside)
    if DESCENDS:
        tl.store(w_at, (w - lr * decay * w - lr * estimate).to(P), inside)
    tl.store(squares + i, tl.sum((e * e).to(tl.float64)))


@triton.jit
def diagonal_kernel(
    addresses, places, sizes, rates, count, programs, squares,
    P: tl.constexpr, S: tl.constexpr, T: tl.constexpr,
    KEEPS: tl.constexpr, DESCENDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Diagonal-TO on BLOCK numbers; `squares` takes ‖e‖² of each program."""
    i, tensor, j, inside = _place(places, sizes, programs, BLOCK)
    alpha, beta = tl.load(rates + 1).to(T), tl.load(rates + 2).to(T)
    sign = tl.load(rates + 4).to(T)
    w_at = _at(addresses, 0, tensor, count, j, P)
    a_at = _at(addresses, 2, tensor, count, j, S)
    b_at = _at(addresses, 3, tensor, count, j, S)
    w = _read(w_at, inside, T)
    g = _read(_at(addresses, 1, tensor, count, j, P), inside, T) * sign
    a, b = _read(a_at, inside, T), _read(b_at, inside, T)
    e = g - a * w - b
    ew = e * w
    estimate = g - e * (1 - beta) + ew * w * alpha
    tl.store(a_at, (a + alpha * ew).to(S), inside)
    tl.store(b_at, (b + beta * e).to(S), inside)
    _finish(
        addresses, tensor, count, j, inside, i, rates, squares, w_at, w, e, estimate,
        P, S, T, KEEPS, DESCENDS,
    )  # fmt: skip


@triton.jit
def dots_kernel(
    addresses, places, sizes, rates, count, programs, partial,
    P: tl.constexpr, S: tl.constexpr, T: tl.constexpr,
    KEEPS: tl.constexpr, DESCENDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """cᵀw, aᵀa, aᵀb, wᵀw, aᵀg over BLOCK numbers, in double, into a row of `partial`."""
    i, tensor, j, inside = _place(places, sizes, programs, BLOCK)
    sign = tl.load(rates + 4)
    w = _read(_at(addresses, 0, tensor, count, j, P), inside, T).to(tl.float64)
    g = _read(_at(addresses, 1, tensor, count, j, P), inside, T).to(tl.float64)
    a = _read(_at(addresses, 2, tensor, count, j, S), inside, tl.float64)
    b = _read(_at(addresses, 3, tensor, count, j, S), inside, tl.float64)
    c = _read(_at(addresses, 4, tensor, count, j, S), inside, tl.float64)
    tl.store(partial + i * 5, tl.sum(c * w))
    tl.store(partial + i * 5 + 1, tl.sum(a * a))
    tl.store(partial + i * 5 + 2, tl.sum(a * b))
    tl.store(partial + i * 5 + 3, tl.sum(w * w))
    tl.store(partial + i * 5 + 4, tl.sum(a * g) * sign)


@triton.jit
def rank_one_kernel(
    addresses, places, sizes, rates, count, programs, dots, squares,
    P: tl.constexpr, S: tl.constexpr, T: tl.constexpr,
    KEEPS: tl.constexpr, DESCENDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """RankOne-TO on BLOCK numbers, from the dots of their vector."""
    i, tensor, j, inside = _place(places, sizes, programs, BLOCK)
    alpha, beta = tl.load(rates + 1), tl.load(rates + 2).to(T)
    sign = tl.load(rates + 4).to(T)
    own = dots + tl.load(places + 2 * programs + i) * 5
    s, aa, ab = tl.load(own), tl.load(own + 1), tl.load(own + 2)
    ww, ag = tl.load(own + 3), tl.load(own + 4)
    ae = ag - s * aa - ab
    growth = alpha * ae * ww
    w_at = _at(addresses, 0, tensor, count, j, P)
    a_at = _at(addresses, 2, tensor, count, j, S)
    b_at = _at(addresses, 3, tensor, count, j, S)
    c_at = _at(addresses, 4, tensor, count, j, S)
    w = _read(w_at, inside, T)
    g = _read(_at(addresses, 1, tensor, count, j, P), inside, T) * sign
    a, b, c = _read(a_at, inside, T), _read(b_at, inside, T), _read(c_at, inside, T)
    e = g - s.to(T) * a - b
    estimate = g - e * (1 - beta) + a * growth.to(T) + e * (alpha * s * (s + growth)).to(T)
    tl.store(a_at, (a + (alpha * s).to(T) * e).to(S), inside)
    tl.store(b_at, (b + beta * e).to(S), inside)
    tl.store(c_at, (c + (alpha * ae).to(T) * w).to(S), inside)
    _finish(
        addresses, tensor, count, j, inside, i, rates, squares, w_at, w, e, estimate,
        P, S, T, KEEPS, DESCENDS,
    )  # fmt: skip
