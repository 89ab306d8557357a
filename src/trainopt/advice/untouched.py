"""Everything that measuring changes is put back: weights, buffers, modes, gradients, generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))


@contextmanager
def untouched(model: nn.Module | None, params: Sequence[Tensor], loader: Any) -> Iterator[None]:
    """Put back, at the end, what the block changes, also where it raises.

    That is: parameters, their `grad`, and whether each module trains; buffers; the random numbers
    of torch (the CPU, and the devices of the parameters), Python and NumPy; generators and counters
    of the loader, its samplers and its data set.
    """
    modules = [] if model is None else list(model.modules())
    tensors = [*params, *([] if model is None else model.buffers())]
    kept = [x.detach().clone() for x in tensors]
    grads = [p.grad for p in params]
    modes = [module.training for module in modules]
    numpy = sys.modules.get("numpy")
    state, numbers = random.getstate(), numpy and numpy.random.get_state()
    devices = {p.device for p in params if p.device.type == "cuda"}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=list(devices)))
        for part in _parts(loader):
            stack.enter_context(_same_part(part))
        try:
            yield
        finally:
            with torch.no_grad():
                for x, value in zip(tensors, kept, strict=True):
                    x.copy_(value)
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            random.setstate(state)
            if numpy is not None:
                numpy.random.set_state(numbers)


def _parts(loader: Any) -> list[Any]:
    """The loader and what it holds, each once."""
    found = [loader, *(getattr(loader, name, None) for name in ("dataset", "sampler"))]
    found.append(getattr(loader, "batch_sampler", None))
    found.append(getattr(found[-1], "sampler", None))
    return list({id(part): part for part in found if hasattr(part, "__dict__")}.values())


@contextmanager
def _same_part(part: Any) -> Iterator[None]:
    plain = {name: x for name, x in vars(part).items() if isinstance(x, _PLAIN)}
    generators = [x for x in vars(part).values() if isinstance(x, torch.Generator)]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        vars(part).update(plain)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
