"""Loading a state dict so that a wrong one changes nothing, whatever hooks others registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim.optimizer import Optimizer


@contextmanager
def loading(
    optimizer: Optimizer, see: Callable[[dict[str, Any]], None], restore: Callable[[], None]
) -> Iterator[None]:
    """Surround a call of `torch.optim.Optimizer.load_state_dict`.

    Args:
        optimizer: what is loaded into.
        see: is called with what every pre-hook made of the state dict, before anything changes; it
            raises where that can't be loaded.
        restore: puts right what torch has loaded, before any post-hook looks at it.
    """
    handles = (
        optimizer.register_load_state_dict_pre_hook(lambda _, state: see(state)),
        optimizer.register_load_state_dict_post_hook(lambda _: restore(), prepend=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
