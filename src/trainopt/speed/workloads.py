"""What the optimizers step on: the tensors of real models, and the extremes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from trainopt.deep.networks.resnet import ResNet

Shapes = list[tuple[int, ...]]


def _shapes(build: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return [tuple(p.shape) for p in build().parameters()]


def _encoder(width: int, layers: int = 6, vocabulary: int = 30_522) -> Shapes:
    """The tensors of a BERT-like encoder: MiniLM's at width 384, DistilBERT's at 768."""

    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(width, 12, 4 * width, batch_first=True)
        encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        return nn.ModuleList([nn.Embedding(vocabulary, width), nn.Embedding(512, width), encoder])

    return _shapes(build)


# Elementwise optimizers step on these; Full-TO has sizes of its own.
WORKLOADS: dict[str, Callable[[], Shapes]] = {
    "one tensor of 25 M": lambda: [(25_000_000,)],
    "ResNet-18, 11 M": lambda: _shapes(lambda: ResNet(3)),
    "encoder, 23 M": lambda: _encoder(384),
    "encoder, 66 M": lambda: _encoder(768),
    "1 000 tensors of 64": lambda: [(64,)] * 1000,
    "1 000 tensors of 64×64": lambda: [(64, 64)] * 1000,
}
FULL_SIZES = (1_000, 4_000, 10_010)


def parameters(shapes: Shapes, device: torch.device) -> list[Tensor]:
    """Seeded parameters with gradients, float32."""
    generator = torch.Generator(device).manual_seed(0)
    params = []
    for shape in shapes:
        p = torch.randn(shape, generator=generator, device=device).requires_grad_()
        p.grad = torch.randn(shape, generator=generator, device=device)
        params.append(p)
    return params


def copies(params: Iterable[Tensor]) -> list[Tensor]:
    """The same parameters once more, with the same gradients: RankOne-TO notices other writers."""
    twins = []
    for p in params:
        twin = p.detach().clone().requires_grad_()
        twin.grad = p.grad
        twins.append(twin)
    return twins
