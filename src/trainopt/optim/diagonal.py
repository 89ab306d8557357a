"""DiagonalTO: A = diag(a), two numbers per weight."""

from __future__ import annotations

from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from ..forms import Diagonal
from ..learning import Gradient
from ..settings import Rate
from .options import Options, with_options
from .stepping import TrainableOptimizer


@with_options
class DiagonalTO(TrainableOptimizer):
    """Each coordinate of the gradient is modelled as a line in its own weight: Ĝ = a∘w + b.

    Memory: 2 d numbers of state. Time: O(d). (Algorithm 2.)

    Use it first: it is as cheap as ADAM and needs no structure in the weights.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        alpha: Rate = 0.01,
        beta: Rate = 1.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, Diagonal(), Gradient(alpha, beta), lr=lr, **options)
