"""Adding a param group in time that doesn't grow with the groups there are."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

# torch wraps this method to keep torch.compile out of it, by importing the compiler: a second in
# every process, for nothing where nothing is compiled.
_add_param_group = getattr(Optimizer.add_param_group, "__wrapped__", Optimizer.add_param_group)


def added_group(
    optimizer: Optimizer, group: dict[str, Any], known: set[Tensor] | None
) -> dict[str, Any]:
    """Add a param group as `torch.optim.Optimizer` does, and return it.

    torch compares its parameters with those of every other group, which makes the construction of
    an optimizer quadratic in groups; it sees one of them here, for what it asks of names.

    Args:
        optimizer: whose group it becomes.
        group: the group.
        known: the parameters of all its groups, which takes the new ones; None collects them.

    Raises:
        TypeError, ValueError: as torch does; nothing has been changed.
    """
    groups = optimizer.param_groups
    if known is None:
        known = {p for each in groups for p in each["params"]}
    optimizer.param_groups = groups[:1]
    try:
        _add_param_group(optimizer, group)
        added: dict[str, Any] = optimizer.param_groups[-1]
    finally:
        optimizer.param_groups = groups
    if not known.isdisjoint(added["params"]):
        raise ValueError("some parameters appear in more than one parameter group")
    known.update(added["params"])
    groups.append(added)
    return added
