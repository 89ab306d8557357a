"""A tiny task whose every number can be worked out beside the code."""

import torch
from torch import nn

from trainopt.deep.task import Ready, Rows, split


class Net(nn.Module):
    """A hidden layer, batch normalisation and an output layer."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.norm(self.hidden(x)).relu())


def tiny(rows=96, model=Net):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, generator=generator)
    y = (x @ torch.randn(4, 3, generator=generator)).argmax(1)
    parts = split(Rows((x,), y), tune=16, validation=16, probe=16)
    return Ready(**parts, model=model, tokens=1, facts={"data": "made here"})
