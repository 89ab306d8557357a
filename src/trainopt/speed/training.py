"""The share of a whole training step that the optimizer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainopt.deep.networks.resnet import ResNet
from trainopt.speed.contenders import CONTENDERS
from trainopt.speed.step import seconds_of
from trainopt.speed.workloads import copies


def _resnet() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    return ResNet(3), lambda model: functional.cross_entropy(model(images), labels)


def _transformer() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    tokens, width = torch.randint(1000, (16, 64)), 256
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(1000, width), encoder, nn.Linear(width, 1000))
    return model, lambda m: functional.cross_entropy(m(tokens).flatten(0, 1), tokens.flatten())


MODELS = {
    "ResNet-18, batch 128": _resnet,
    "transformer, 4 layers of 256, 16×64 tokens": _transformer,
}


def built(
    build: Callable[[], tuple[nn.Module, Callable[[nn.Module], Tensor]]], device: torch.device
) -> tuple[nn.Module, Callable[[], None]]:
    """A model on its device, seeded, and what computes its gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        model, loss = build()

    def gradients() -> None:
        model.zero_grad()
        torch.autograd.backward(loss(model))

    return model, gradients


def training_rows(device: torch.device, repeats: int) -> Iterator[dict[str, Any]]:
    """Time gradients and updates of two models.

    Yields:
        A row per model and contender: gradient_ms, step_ms, and share, the part of their sum that
        is the step's.
    """
    for name, build in MODELS.items():
        model, gradients = built(build, device)
        seconds = seconds_of({"gradients": gradients}, max(2, repeats // 5))["gradients"]
        steps = {c.title: c.build(copies(model.parameters())) for c in CONTENDERS}
        for contender, step in seconds_of(steps, repeats).items():
            yield {
                "model": name,
                "contender": contender,
                "gradient_ms": 1e3 * seconds,
                "step_ms": 1e3 * step,
                "share": step / (step + seconds),
            }
