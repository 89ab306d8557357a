"""Can a state dict be this optimizer's?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from .plan import Plan


def check_saved(
    state_dict: dict[str, Any], plan: Plan, pairs: int, sizes: list[int], has_base: bool
) -> None:
    """Raise a ValueError that says why a state dict can't be that of an optimizer.

    Args:
        state_dict: what was saved.
        plan: the optimizer's.
        pairs: its M.
        sizes: the number of parameters in each of its groups.
        has_base: whether it was given a base optimizer.
    """
    first = state_dict["param_groups"][0]
    kept = first.get("secant")
    if kept is None:
        raise ValueError(
            "the state dict has no entry 'secant': load it into the optimizer that saved it."
        )
    if kept["plan"] != asdict(plan):
        raise ValueError(
            "plan: the state dict was saved with another one: build the optimizer with the plan, "
            "or the ChunkSampler, that it had."
        )
    if kept["pairs"] != pairs:
        raise ValueError(
            f"pairs={pairs} is not what the state dict was saved with: build the optimizer with "
            f"pairs={kept['pairs']}."
        )
    if ("base" in first) != has_base:
        raise ValueError(
            "base: only one of the state dict and the optimizer has one: build the optimizer as it "
            "was when the state was saved."
        )
    saved_sizes = [len(group["params"]) for group in state_dict["param_groups"]]
    if saved_sizes != sizes:
        raise ValueError(
            f"the state dict's param groups have {saved_sizes} parameters and the optimizer's "
            f"{sizes}: build the optimizer with the same groups."
        )


def copy_vectors(state_dict: dict[str, Any], own: Sequence[Tensor]) -> None:
    """Copy each parameter's part of the state, (vectors, *shape), into `own`.

    Raises:
        ValueError: a part is missing or of another shape.
    """
    keys = [key for group in state_dict["param_groups"] for key in group["params"]]
    for key, part in zip(keys, own, strict=True):
        saved = state_dict["state"].get(key, {}).get("vectors")
        if saved is None or saved.shape != part.shape:
            shape = None if saved is None else tuple(saved.shape[1:])
            raise ValueError(
                f"the state dict's parameter {key} has the shape {shape} and the optimizer's "
                f"{tuple(part.shape[1:])}: load it for the same model."
            )
        part.copy_(saved)
