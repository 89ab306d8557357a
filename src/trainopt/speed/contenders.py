"""Who takes part in the benchmark of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainopt import DiagonalTO, FullTO, RankOneTO
from trainopt.speed import naive
from trainopt.speed.naive import ALPHA, BETA, LR

Step = Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """One way to take a step.

    Attributes:
        title: in tables.
        build: build(params) -> step.
        moved: bytes that a step has to move for a float32 weight: what GB/s is counted by.
        naive: the title of its naive form; "" for peers.
    """

    title: str
    build: Callable[[list[Tensor]], Step]
    moved: float
    naive: str = ""


def _stepper(make: Callable[..., Any], **settings: Any) -> Callable[[list[Tensor]], Step]:
    def build(params: list[Tensor]) -> Step:
        optimizer = make(params, lr=LR, **settings)

        def step() -> None:
            optimizer.step()

        return step

    return build


to_stepper = partial(_stepper, alpha=ALPHA, beta=BETA)
_adamw = partial(_stepper, torch.optim.AdamW)
REFERENCE = "AdamW, fused"
CONTENDERS = [
    Contender(REFERENCE, _adamw(fused=True), 28),
    Contender("AdamW, foreach", _adamw(foreach=True), 28),
    Contender("AdamW, for-loop", _adamw(foreach=False), 28),
    Contender("SGD-momentum, fused", _stepper(torch.optim.SGD, momentum=0.9, fused=True), 20),
    Contender("Diagonal-TO, fused", to_stepper(DiagonalTO, fused=True), 28, "Diagonal-TO, naive"),
    Contender(
        "Diagonal-TO, foreach", to_stepper(DiagonalTO, foreach=True), 28, "Diagonal-TO, naive"
    ),
    Contender("Diagonal-TO, naive", naive.diagonal, 28),
    Contender("RankOne-TO, fused", to_stepper(RankOneTO, fused=True), 56, "RankOne-TO, naive"),
    Contender("RankOne-TO, foreach", to_stepper(RankOneTO, foreach=True), 56, "RankOne-TO, naive"),
    Contender("RankOne-TO, naive", naive.rank_one, 56),
]


def full_contenders(d: int) -> list[Contender]:
    """Full-TO at d weights; `moved` counts readings and writings of A, one each by a kernel."""
    bf16 = {"state_dtype": torch.bfloat16}
    return [
        Contender("Full-TO, fused", to_stepper(FullTO, fused=True), 8 * d, "Full-TO, naive"),
        Contender(
            "Full-TO, fused, A in bfloat16",
            to_stepper(FullTO, fused=True, **bf16),
            4 * d,
            "Full-TO, naive",
        ),
        Contender("Full-TO, for-loop", to_stepper(FullTO, fused=False), 12 * d, "Full-TO, naive"),
        Contender("Full-TO, naive", naive.full, 24 * d),
    ]
