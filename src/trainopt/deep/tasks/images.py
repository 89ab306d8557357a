"""Image tasks: a small CNN on MNIST, a ResNet on Fashion-MNIST, ResNet-18 on CIFAR-10."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainopt.data.sources import SOURCES
from trainopt.deep.networks import CNN, ResNet
from trainopt.deep.task import CROSS_ENTROPY, Ready, Rows, split
from trainopt.deep.tasks import Size
from trainopt.errors import InputError


def _images(pixels: Any, labels: NDArray[Any], channels: int) -> Rows:
    """Pixels 0 … 255 to square images of mean 0 and variance 1 over all pixels."""
    x = torch.from_numpy(np.asarray(pixels, dtype=np.float32)) / 255
    side = round((x.shape[1] / channels) ** 0.5)
    x = ((x - x.mean()) / x.std()).reshape(-1, channels, side, side)
    return Rows((x,), torch.from_numpy(np.asarray(labels, dtype=np.int64)))


def cnn(size: Size) -> Ready:
    """Build the task cnn."""
    source = SOURCES["mnist"]
    pixels, labels, _ = source.read()
    parts = split(_images(pixels, labels, 1), tune=500, validation=500, probe=500)
    width = {"cpu": 8, "gpu": 32}[size]
    facts = {"data": f"{source.title}, {source.origin}"}
    return Ready(**parts, model=partial(CNN, width), tokens=1, facts=facts, loss=CROSS_ENTROPY)


def resnet(size: Size) -> Ready:
    """Build the task resnet."""
    source = SOURCES["fashion"]
    pixels, labels, _ = source.read()
    # The last 10 000 are the set's own test images; the CPU size takes a part of all.
    tested = 60_000
    count = {"cpu": 10_000, "gpu": tested}[size]
    judged = {"cpu": 1_000, "gpu": 10_000}[size]
    chosen = np.r_[:count, tested : tested + judged]
    rows = _images(pixels[chosen], labels[chosen], 1)
    parts = split(rows[:count], tune=count // 20, validation=0, probe=384)
    parts["validation"] = rows[count:]
    make = {"cpu": partial(ResNet, 1, (8, 16, 32), 1), "gpu": partial(ResNet, 1)}[size]
    facts = {"data": f"{source.title}, {source.origin}"}
    return Ready(**parts, model=make, tokens=1, facts=facts, loss=CROSS_ENTROPY)


def resnet18(size: Size) -> Ready:
    """Build the task resnet18."""
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("CIFAR_10", version=1, as_frame=False, n_retries=1)
    except OSError as error:
        raise InputError(
            f"CIFAR-10 comes from OpenML, which doesn't answer ({error}): connect to the network, "
            "or take the task resnet, whose images come in a package."
        ) from error
    rows = _images(bunch.data, bunch.target.astype(np.int64), 3)
    parts = split(rows[:50_000], tune=2_000, validation=0, probe=1_024)
    parts["validation"] = rows[50_000:]
    facts = {"data": "CIFAR-10, 60 000 images 32x32 in colour, OpenML"}
    return Ready(**parts, model=partial(_Augmented, 3), tokens=1, facts=facts, loss=CROSS_ENTROPY)


class _Augmented(ResNet):
    """Training images are flipped and shifted by up to four pixels, one draw for a batch."""

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            if torch.rand(()) < 0.5:
                images = images.flip(3)
            top, left = torch.randint(9, (2,)).tolist()
            height, width = images.shape[2:]
            padded = functional.pad(images, (4, 4, 4, 4))
            images = padded[:, :, top : top + height, left : left + width]
        return super().forward(images)
