"""RankOneTO: A = a cᵀ, three numbers per weight."""

from __future__ import annotations

from typing import Literal

from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from ..forms import RankOne
from ..forms.rank_one import Init
from ..learning import Gradient
from ..settings import Rate
from .options import Options, with_options
from .stepping import TrainableOptimizer


@with_options
class RankOneTO(TrainableOptimizer):
    """The gradient is modelled through one learned feature of the weights: Ĝ = a (cᵀw) + b.

    Memory: 3 d numbers of state. Time: O(d). (Algorithm 3.)

    Use it where weights act together: A has entries between all pairs of coordinates, at rank one.

    Args:
        scope: "tensor": one A per tensor; "group": the tensors of a param group are one vector w,
            as in the paper. Default: "tensor".
        init: c at the start (a starts at 0, so that A₀ = 0; c must not, or A stays 0 for ever).
            "ones": 1/√d each; "normal": N(0, 1/d); or a function of the parameter (of its real
            view when complex) that returns a tensor of its shape. "ones" reads the sum of the
            weights, which softmax regression leaves at 0 from weights 0: it learns no A there, and
            "normal" does. Default: "ones".
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        alpha: Rate = 0.01,
        beta: Rate = 1.0,
        *,
        scope: Literal["tensor", "group"] = "tensor",
        init: Init = "ones",
        **options: Unpack[Options],
    ) -> None:
        form, rule = RankOne(init), Gradient(alpha, beta)
        super().__init__(params, form, rule, lr=lr, scope=scope, **options)
