"""The settings that go with an optimizer, and the lines that build it."""

from __future__ import annotations

from typing import Any

from .measurements import Measurements

# Where a search may start: medians over the problems of the committed studies of the rates that
# their searches found, for models that are linear in their weights and for others.
LR = {
    ("schedulefree-adamw", True): 0.3,
    ("schedulefree-adamw", False): 0.005,
    ("muon", False): 0.001,
}
SGD_LR = 2.0  # the same of schedule-free SGD's, in 1/λ_max
_NETWORK_FIRST = 0.2  # of the passes, SecantTO's base phase on a network


def settings(optimizer: str, seen: Measurements) -> dict[str, Any]:
    """What to set, by the names of the constructor; what is left out has its default."""
    decay = {"weight_decay": seen.weight_decay} if seen.weight_decay else {}
    if optimizer in ("secant", "secant-small"):
        base = {} if seen.linear else {"first": max(3, round(_NETWORK_FIRST * seen.passes))}
        return decay | base
    if optimizer == "lbfgs":
        return {"history_size": 10, "line_search_fn": "strong_wolfe"}
    if optimizer == "schedulefree-sgd":
        lr = SGD_LR / seen.spectrum.high if seen.spectrum.high > 0 else 0.1
        return decay | {"lr": float(f"{lr:.2g}"), "momentum": 0.9}
    # The decay of these is decoupled: another objective, whose λ is multiplied by the rate.
    return {"lr": LR[optimizer, seen.linear]}


_SECANT = """\
from trainopt import ChunkSampler, SecantTO
sampler = ChunkSampler(data, batch_size={batch}{chunks})
loader = DataLoader(data, batch_sampler=sampler)
optimizer = SecantTO(model.parameters(), sampler{own})"""

CODE = {
    "secant": _SECANT,
    "secant-small": _SECANT,
    "lbfgs": "optimizer = torch.optim.LBFGS(model.parameters(){own})  # closure: all rows",
    "schedulefree-sgd": "optimizer = schedulefree.SGDScheduleFree(model.parameters(){own})",
    "schedulefree-adamw": "optimizer = schedulefree.AdamWScheduleFree(model.parameters(){own})",
    "muon": "optimizer = torch.optim.Muon(hidden_matrices{own})  # AdamW for the rest",
}


def code(optimizer: str, seen: Measurements) -> str:
    """The lines that build the optimizer."""
    given = [f"{name}={value!r}" for name, value in settings(optimizer, seen).items()]
    if optimizer.startswith("secant") and not seen.linear:
        given.insert(0, "base=torch.optim.Adam(model.parameters(), lr=0.01)")
    chunks = ", chunks=4" if optimizer == "secant-small" else ""
    own = "".join(f", {each}" for each in given)
    return CODE[optimizer].format(batch=seen.batch, chunks=chunks, own=own)
