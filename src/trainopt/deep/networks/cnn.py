"""A small convolutional network."""

from __future__ import annotations

from torch import Tensor, nn


class CNN(nn.Module):
    """Two convolutions, one hidden layer, one output layer; no normalisation.

    Args:
        width: channels of the first convolution; the second has twice as many.
        classes: number of outputs.
    """

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(2 * width * 7 * 7, 64)
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (n, 1, 28, 28) to logits (n, classes)."""
        logits: Tensor = self.head(self.hidden(self.features(images)).relu())
        return logits
