"""Several optimizers, each on parameters of its own, as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from torch.optim import Optimizer


class Combined(Optimizer):
    """Step several optimizers together: Muon takes matrices only, so another takes the rest.

    Its param groups and state are theirs, so that a schedule or `Estimated` sees one optimizer.

    Args:
        parts: optimizers on disjoint parameters, before their first step.
    """

    def __init__(self, *parts: Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            part.state = self.state
        self.parts = parts

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step every part; the closure is called once, first."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group of one of the parts as it is."""
        self.param_groups.append(param_group)
