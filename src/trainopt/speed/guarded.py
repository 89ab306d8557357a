"""What `on_instability` costs: steps with the guard and without, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainopt import DiagonalTO, RankOneTO
from trainopt.speed import training
from trainopt.speed.contenders import Step, to_stepper
from trainopt.speed.step import seconds_of
from trainopt.speed.workloads import copies

# As many as lie between two looks at everything, so that these count with their share.
BLOCK = 100
VARIANTS = {"Diagonal-TO": DiagonalTO, "RankOne-TO": RankOneTO}


def _linear() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    rows, labels = torch.randn(128, 64), torch.randint(10, (128,))
    return nn.Linear(64, 10), lambda model: functional.cross_entropy(model(rows), labels)


LINEAR = {"softmax regression, 650 weights, batch 128": _linear}


def guarded_rows(device: torch.device, repeats: int) -> Iterator[dict[str, Any]]:
    """Time steps in blocks of `BLOCK`, after two blocks: the first steps of a run cost more.

    Yields:
        A row per model and variant: gradient_ms, off_ms and on_ms of a step, and what the guard
        adds as a part of the step alone (of_step) and of gradient and step (of_training).
    """
    rounds = max(2, repeats // 5)
    for name, build in (training.MODELS | LINEAR).items():
        model, gradients = training.built(build, device)
        gradient = seconds_of({"": gradients}, rounds if name in training.MODELS else 20 * rounds)
        weights = list(model.parameters())
        steps = {
            (variant, guard): _block(to_stepper(make, on_instability=guard)(copies(weights)))
            for variant, make in VARIANTS.items()
            for guard in (None, "raise")
        }
        seconds = seconds_of(steps, rounds)
        for variant in VARIANTS:
            off, on = (seconds[variant, guard] / BLOCK for guard in (None, "raise"))
            yield {
                "model": name,
                "contender": variant,
                "gradient_ms": 1e3 * gradient[""],
                "off_ms": 1e3 * off,
                "on_ms": 1e3 * on,
                "of_step": on / off - 1,
                "of_training": (on - off) / (gradient[""] + off),
            }


def _block(step: Step) -> Step:
    def steps() -> None:
        for _ in range(BLOCK):
            step()

    return steps
