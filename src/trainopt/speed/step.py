"""Milliseconds of a step: every contender on every workload, interleaved in one process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from trainopt.harness.memory_use import PeakBytes
from trainopt.speed.contenders import CONTENDERS, REFERENCE, Contender, full_contenders
from trainopt.speed.workloads import FULL_SIZES, WORKLOADS, copies, parameters

Row = dict[str, Any]
Name = TypeVar("Name", bound=Hashable)


def seconds_of(steps: dict[Name, Callable[[], object]], repeats: int) -> dict[Name, float]:
    """The median seconds of each, after two rounds to warm up; they take turns.

    Args:
        steps: what to time, by name.
        repeats: rounds that count.
    """
    times: dict[Name, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 2):
        for name, step in steps.items():
            _synchronise()
            start = time.perf_counter()
            step()
            _synchronise()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[2:])) for name, values in times.items()}


def limits(device: torch.device, repeats: int) -> dict[str, float]:
    """What the memory of the machine gives, in GB/s: reading, copying, and x + y into z.

    On a CPU a plain copy isn't the most that a step can reach: writing to where one has just read
    is cheaper than writing elsewhere.
    """
    x, y, z = (torch.randn(25_000_000, device=device) for _ in range(3))
    seconds = seconds_of(
        {
            "read": lambda: torch.dot(x, y),
            "copy": lambda: y.copy_(x),
            "triad": lambda: torch.add(x, y, out=z),
        },
        repeats,
    )
    moved = {"read": 2, "copy": 2, "triad": 3}
    return {name: moved[name] * x.nbytes / seconds[name] / 1e9 for name in seconds}


def step_rows(device: torch.device, repeats: int) -> Iterator[Row]:
    """Measure everything.

    Args:
        device: where the tensors are.
        repeats: rounds per workload.

    Yields:
        A row per workload and contender: ms, gb_per_s (by the bytes that the rule has to move),
        of_limit (of the copy limit; of reading for Full-TO), vs_adamw, vs_naive (the ratios of
        milliseconds, below 1 is faster; NaN where there is no such form), peak (bytes that a step
        makes besides weights, gradients and state).
    """
    bandwidth = limits(device, repeats)
    for workload, shapes in WORKLOADS.items():
        yield from _measured(workload, CONTENDERS, shapes(), device, repeats, bandwidth["copy"])
    for d in FULL_SIZES:
        yield from _measured(
            f"Full-TO, d = {d:_}".replace("_", " "),
            full_contenders(d),
            [(d,)],
            device,
            repeats,
            bandwidth["read"],
        )


def _measured(
    workload: str,
    contenders: list[Contender],
    shapes: list[tuple[int, ...]],
    device: torch.device,
    repeats: int,
    limit: float,
) -> Iterator[Row]:
    params = parameters(shapes, device)
    steps = {c.title: c.build(copies(params)) for c in contenders}
    seconds = seconds_of(steps, repeats)
    weights = sum(p.numel() for p in params)
    for c in contenders:
        speed = weights * c.moved / seconds[c.title] / 1e9
        yield {
            "workload": workload,
            "contender": c.title,
            "ms": 1e3 * seconds[c.title],
            "gb_per_s": speed,
            "of_limit": speed / limit,
            "vs_adamw": seconds[c.title] / seconds.get(REFERENCE, np.nan),
            "vs_naive": seconds[c.title] / seconds.get(c.naive, np.nan),
            "peak": _peak(steps[c.title]),
        }


def _peak(step: Callable[[], object]) -> int:
    with PeakBytes() as counter:
        step()
    peak: int = counter.peak
    return peak


_FIRST_STEP = """
import time, torch
from trainopt import {name}
p = torch.nn.Parameter(torch.ones(1000))
p.grad = torch.ones(1000)
optimizer = {name}([p], lr=0.1, fused=True)
start = time.perf_counter()
optimizer.step()
print(time.perf_counter() - start)
"""


def first_steps(device: torch.device) -> Iterator[Row]:
    """Seconds of the first step of a process: with nothing compiled yet, and with the file there.

    Yields:
        Rows with contender, cold and warm.
    """
    code = _FIRST_STEP
    if device.type != "cpu":
        code = code.replace("ones(1000)", f"ones(1000, device='{device}')")
    for name in ("DiagonalTO", "RankOneTO", "FullTO"):
        with tempfile.TemporaryDirectory() as cache:
            seconds = [
                float(
                    subprocess.run(
                        [sys.executable, "-c", code.format(name=name)],
                        env=_with_cache(cache),
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                for _ in range(2)
            ]
        yield {"contender": name, "cold": seconds[0], "warm": seconds[1]}


def _with_cache(folder: str) -> dict[str, str]:
    return {**os.environ, "TRAINOPT_CACHE": folder, "TRITON_CACHE_DIR": folder}


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
