"""`make soak`: adversarial gradients for every variant, rule and dtype, with the guard on.

Heavy tails, a scale of 10⁶, zeros, alternating signs, bursts of NaN and infinity, denormals: a run
takes turns of them. After every step weights and state must be finite. An `InstabilityError` is no
fault; the run begins anew from other weights, as a user would from a checkpoint.

    python tests/soak/soak.py --steps 1000000 --out tests/soak/results diagonal
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import sys
import time
import warnings
from pathlib import Path

import torch

from trainopt import (
    TO,
    Centred,
    Dense,
    Diagonal,
    Estimated,
    Estimator,
    Gradient,
    InstabilityError,
    Normalised,
    RankOne,
    SecantTO,
)
from trainopt.secant import Plan

SHAPES = ((4, 3), (3,))
POOL = 64  # gradients of each kind, drawn once
TURN = 40  # steps of one kind at the most
BURST = 12  # the same, of gradients that aren't finite: more than 19 in a row are an error
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "complex64": torch.complex64,
}
RULES = {
    "gradient": {"learn": Gradient(0.01, 1.0)},
    "slow": {"learn": Gradient(0.1, 0.1)},
    "normalised": {"learn": Normalised()},
    "centred": {"learn": Gradient(0.01, 0.5), "reads": Centred(0.05)},
}
FORMS = {"full": Dense(), "diagonal": Diagonal(), "rankone": RankOne()}
LEARNERS = {
    **FORMS,
    "adamw-diagonal": Diagonal(),
    "adamw-rankone": RankOne(),
}
ACTIONS = ("reset", "skip", "warn", "raise")
KINDS = ("normal", "cauchy", "huge", "zeros", "signs", "nan", "inf", "denormal", "one")


def pool(kind: str, dtype: torch.dtype, generator: torch.Generator) -> list[list[torch.Tensor]]:
    """Gradients of a kind."""
    return [
        [_gradient(kind, number, shape, dtype, generator) for shape in SHAPES]
        for number in range(POOL)
    ]


def _gradient(kind, number, shape, dtype, generator):
    real = dtype.to_real() if dtype.is_complex else dtype
    size = (*shape, 2) if dtype.is_complex else shape
    x = torch.randn(size, generator=generator, dtype=torch.float64)
    if kind == "cauchy":
        x = x / torch.randn(size, generator=generator, dtype=torch.float64)
    elif kind == "huge":
        x = x * 1e6
    elif kind == "zeros":
        x = x * 0
    elif kind == "signs":
        x = torch.full_like(x, (-1.0) ** number)
    elif kind in ("nan", "inf"):
        x.view(-1)[number % x.numel()] = float(kind) * (-1) ** number
    elif kind == "denormal":
        x = x * torch.finfo(real).tiny / 8
    elif kind == "one":  # most numbers are 0, and one is large
        mask = torch.zeros_like(x)
        mask.view(-1)[number % x.numel()] = 1e3
        x = x * mask
    x = x.to(real)
    return torch.view_as_complex(x) if dtype.is_complex else x


def weights(dtype: torch.dtype, generator: torch.Generator) -> list[torch.nn.Parameter]:
    """Weights at a start."""
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in SHAPES
    ]


def build(variant: str, rule: str, action: str, params: list[torch.nn.Parameter]):
    """Return the optimizer of a configuration."""
    if variant == "secant":
        return SecantTO(params, Plan((1,) * 8, (2, 4, 6, 8)), lr=0.1, on_instability=action)
    estimator = Estimator(params, LEARNERS[variant], **RULES[rule], on_instability=action)
    if variant.startswith("adamw-"):
        return Estimated(torch.optim.AdamW(params, lr=0.01), estimator)
    return TO(estimator, lr=0.1)


def soak(
    variant: str, rule: str, dtype: str, action: str, steps: int, seed: int = 0
) -> dict[str, object]:
    """Take the steps; return what happened.

    Raises:
        AssertionError: weights or state aren't finite after a step.
    """
    generator = torch.Generator().manual_seed(seed)
    pools = {kind: pool(kind, DTYPES[dtype], generator) for kind in KINDS}
    errors, unforeseen, refused, largest = 0, 0, 0, 0.0
    params = weights(DTYPES[dtype], generator)
    optimizer = build(variant, rule, action, params)
    began = time.perf_counter()
    kind, left = "normal", 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(steps):
            if not left:
                kind = KINDS[int(torch.randint(len(KINDS), (), generator=generator))]
                longest = BURST if kind in ("nan", "inf") else TURN
                left = 1 + int(torch.randint(longest, (), generator=generator))
            left -= 1
            drawn = pools[kind][int(torch.randint(POOL, (), generator=generator))]
            for p, noise in zip(params, drawn, strict=True):
                p.grad = p.detach() * 0.1 + noise
            try:
                optimizer.step()
            except InstabilityError as error:
                errors += 1
                unforeseen += "not foreseen" in str(error)
                check(optimizer, params, step, kind)
                if action != "raise":  # it has given up
                    refused += events(optimizer)
                    params = weights(DTYPES[dtype], generator)
                    optimizer = build(variant, rule, action, params)
            largest = max(largest, check(optimizer, params, step, kind, state=step % 10 == 0))
    return {
        "variant": variant,
        "rule": rule,
        "dtype": dtype,
        "on_instability": action,
        "seed": seed,
        "steps": steps,
        "refused or told": refused + events(optimizer),
        "errors": errors,
        "of steps that were taken": unforeseen,
        "largest weight": largest,
        "seconds": round(time.perf_counter() - began, 1),
    }


def check(optimizer, params: list[torch.nn.Parameter], step: int, kind: str, state: bool = True):
    """Return the largest weight; it must be finite, and so must all numbers of the state."""
    largest = max(float(p.detach().abs().max()) for p in params)
    assert math.isfinite(largest), f"weights aren't finite after step {step}, of kind {kind}"
    if not state:
        return largest
    learner = getattr(optimizer, "estimator", optimizer)
    states = [learner.state.get(p, {}) for p in params]
    total = sum(float(v.abs().sum()) for held in states for v in held.values())
    assert math.isfinite(total), f"the state isn't finite after step {step}, of kind {kind}"
    return largest


def events(optimizer) -> int:
    """How often the guard did something."""
    if isinstance(optimizer, SecantTO):
        return sum(optimizer.response.events.values())
    return sum(optimizer.estimator.guard.events.values())


def configurations():
    """Return all that there are: variant, rule, dtype and action."""
    for variant, rule, dtype, action in itertools.product(LEARNERS, RULES, DTYPES, ACTIONS):
        yield variant, rule, dtype, action
    for dtype, action in itertools.product(DTYPES, ACTIONS):
        yield "secant", "-", dtype, action


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only configurations with all of these words")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder to add the results to")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    failures = 0
    for configuration in configurations():
        if not set(chosen.words) <= set(configuration):
            continue
        try:
            result = soak(*configuration, chosen.steps, chosen.seed)
        except AssertionError as failure:
            result, failures = {"failed": f"{configuration}: {failure}"}, failures + 1
        result |= {"torch": torch.__version__, "python": platform.python_version()}
        print(json.dumps(result), flush=True)
        if chosen.out is not None:
            chosen.out.mkdir(parents=True, exist_ok=True)
            with (chosen.out / "soak.jsonl").open("a") as file:
                file.write(json.dumps(result) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
