"""A tanh network that knows its derivatives with respect to its inputs, without nested autograd."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Jet(NamedTuple):
    """A network's values and derivatives at n points; its output is one number per point.

    Attributes:
        value: u, (n,).
        first: for each input x_j, ∂u/∂x_j, (n,).
        second: for each input x_j that was asked for, ∂²u/∂x_j², (n,).
    """

    value: Tensor
    first: list[Tensor]
    second: list[Tensor]


class Network(nn.Module):
    """A float64 network of tanh layers from points to one number each, Glorot's start.

    Args:
        low, high: for each input, its range, which is scaled to [−1, 1].
        hidden: the width of each hidden layer.
        seed: of the first weights.
        unknowns: how many numbers of the equation are trained with the weights, from 1 on.
    """

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        hidden: Sequence[int],
        seed: int,
        unknowns: int = 0,
    ) -> None:
        super().__init__()
        ends = torch.tensor([low, high], dtype=torch.float64)
        self.middle, self.reach = ends.mean(0), (ends[1] - ends[0]) / 2
        widths = [len(low), *hidden, 1]
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in pairwise(widths):
            weight = torch.empty(outputs, inputs, dtype=torch.float64)
            nn.init.xavier_normal_(weight, generator=generator)
            self.weights.append(weight)
            self.biases.append(torch.zeros(outputs, dtype=torch.float64))
        if unknowns:
            self.unknowns = nn.Parameter(torch.ones(unknowns, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        """Values at points (n, inputs): (n,)."""
        x = (points - self.middle) / self.reach
        *layers, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in layers:
            x = torch.tanh(nn.functional.linear(x, weight, bias))
        return nn.functional.linear(x, *last)[:, 0]

    def jet(self, points: Tensor, second: Sequence[int] = ()) -> Jet:
        """Values and derivatives, carried forward through the layers by the chain rule.

        Args:
            points: (n, inputs).
            second: the inputs whose second derivatives are asked for.
        """
        inputs = len(self.reach)
        n, m = len(points), len(second)
        directions = torch.diag(1 / self.reach)[:, None].expand(inputs, n, inputs)
        x = torch.cat([((points - self.middle) / self.reach)[None], directions])
        curved = x.new_zeros(m, n, inputs)
        *layers, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in layers:
            z = torch.cat([x, curved]) @ weight.T
            value = torch.tanh(z[0] + bias)
            slope = 1 - value.square()
            along, bent = z[1 : 1 + inputs], z[1 + inputs :]
            x = torch.cat([value[None], slope * along])
            curved = slope * (bent - 2 * value * along[list(second)].square())
        weight, bias = last
        z = (torch.cat([x, curved]) @ weight.T)[..., 0]
        return Jet(z[0] + bias, list(z[1 : 1 + inputs]), list(z[1 + inputs :]))
