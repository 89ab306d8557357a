"""Residual networks for small images, after He et al. (2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class ResNet(nn.Module):
    """A 3×3 stem without pooling, stages of basic blocks, global average, one linear layer.

    `ResNet(1, (8, 16, 32), 1)` is the small one of the CPU size, `ResNet(3)` is ResNet-18 for
    32×32 images.

    Args:
        channels: of the images.
        widths: channels of each stage; every stage but the first halves the image.
        blocks: basic blocks in a stage.
        classes: number of outputs.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 2,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = _convolution(channels, widths[0])
        stages: list[nn.Module] = []
        before = widths[0]
        for i, width in enumerate(widths):
            for block in range(blocks):
                stages.append(_Block(before, width, stride=2 if i > 0 and block == 0 else 1))
                before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (n, channels, height, width) to logits (n, classes)."""
        features = self.stages(self.stem(images).relu())
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, width, stride=stride)
        self.second = _convolution(width, width)
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(before, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).relu()) + self.shortcut(x)
        return out.relu()


def _convolution(before: int, width: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(width),
    )
