"""FullTO: A dense, d² + d numbers."""

from __future__ import annotations

from typing import Literal

from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from ..forms import Dense
from ..learning import Gradient
from ..settings import Rate
from .options import Options, with_options
from .stepping import TrainableOptimizer


@with_options
class FullTO(TrainableOptimizer):
    """Every coordinate of the gradient is modelled as linear in all weights: Ĝ = A w + b.

    Memory: d² + d numbers of state. Time: O(d²) a step, and never a second array of d² numbers.
    (Algorithm 1.) With scope="tensor", d is the size of each tensor on its own.

    Use it for small models, up to some thousand weights.

    A is kept as one block of rows per parameter, in the state of that parameter. A parameter
    without a gradient is left out of a step: its rows and its columns stay as they are.

    Args:
        scope: "group": the tensors of a param group are one vector w, as in the paper; "tensor":
            one A per tensor. Default: "group".
        check_memory: refuse, before anything is allocated, when A needs more bytes than the device
            has available. Default: True.

    Raises:
        MemoryError: A does not fit; the sentence names d, the bytes and the ways out.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        alpha: Rate = 0.01,
        beta: Rate = 1.0,
        *,
        scope: Literal["group", "tensor"] = "group",
        check_memory: bool = True,
        **options: Unpack[Options],
    ) -> None:
        rule = Gradient(alpha, beta)
        super().__init__(
            params, Dense(), rule, lr=lr, scope=scope, check_memory=check_memory, **options
        )
