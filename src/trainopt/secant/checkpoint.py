"""An optimizer whose state is a `Run`: what torch asks of it beyond steps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

from ..loading import loading
from ..optim.response import Response
from ..settings import check_number
from .layout import Layout
from .plan import Plan
from .run import Run, Settings
from .saved import check_saved, copy_vectors
from .watch import Watch

LR = 0.3


class Checkpointed(Optimizer):
    """Param groups, state dicts, copies and pickles of `SecantTO`.

    `state` shows each parameter's part of the run's vectors. A state dict has, in its first group,
    everything that isn't of a parameter: so whatever maps it by its parameters
    (`torch.distributed.checkpoint`) carries all of it.

    Attributes:
        plan: the pass.
        settings: see `Settings`.
        base: the optimizer of the base phase; None is SGD.
        response: to instability; None does nothing.
    """

    plan: Plan
    settings: Settings
    base: Optimizer | None
    response: Response | None
    _run: Run | None
    _watch: Watch | None

    @property
    def steps(self) -> int:
        """The number of steps taken: with a `ChunkSampler`, where to `seek` to go on."""
        return 0 if self._run is None else self._run.progress.steps

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, before the first step; see `torch.optim.Optimizer`.

        Raises:
            RuntimeError: a step was taken; nothing has been changed.
            TypeError, ValueError: `lr` or `weight_decay` isn't a finite number ≥ 0.
        """
        if self.steps:
            raise RuntimeError(
                "a param group can't be added after the first step, whose objective was another "
                "one: build a new SecantTO for all parameters."
            )
        for name in ("lr", "weight_decay"):
            check_number(name, {**self.defaults, **param_group}[name])
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return what torch's optimizers return.

        The first group has two entries more, "secant": plan and numbers, and "base": the state
        dict of `base`.
        """
        kept = super().state_dict()
        first, *others = kept["param_groups"]
        first = {**first, "secant": self._numbers()}
        if self.base is not None:
            base = self.base.state_dict()
            # torch.distributed.checkpoint takes whole numbers for the places of a list.
            first["base"] = {**base, "state": {str(k): v for k, v in base["state"].items()}}
        return {**kept, "param_groups": [first, *others]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; a run goes on bit for bit, in a chunk's middle too.

        Raises:
            ValueError: the state is another optimizer's, another plan's, or of other shapes;
                nothing has been changed.
        """
        loaded: list[Run | None] = []

        def see(final: dict[str, Any]) -> None:
            loaded.append(self._read_state(final))
            if self.base is not None:
                base = final["param_groups"][0]["base"]
                state = {int(k): v for k, v in base["state"].items()}
                self.base.load_state_dict({**base, "state": state})

        def restore() -> None:
            for name in ("secant", "base"):
                self.param_groups[0].pop(name, None)
            self._hold(loaded[0])
            if self._watch is not None:
                self._watch = Watch(self._watch.source)

        with loading(self, see, restore):
            super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        kept = super().__getstate__()
        run = self._run
        return {
            **kept,
            "state": defaultdict(dict),  # views, which a pickle would make tensors of their own
            "plan": self.plan,
            "settings": self.settings,
            "base": self.base,
            "response": self.response,
            "_vectors": None if run is None else run.vectors,
            "_kept": self._numbers(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_kept" not in state:  # what load_state_dict gives
            super().__setstate__(state)
            return
        vectors, kept = state.pop("_vectors"), state.pop("_kept")
        self._watch = None  # a copy doesn't watch the loader of the original
        super().__setstate__(state)
        self._hold(None if vectors is None else self._new_run(vectors, kept["numbers"]))

    def _numbers(self) -> dict[str, Any]:
        """Return everything of the state that isn't of size d."""
        return {
            "plan": asdict(self.plan),
            "pairs": self.settings.pairs,
            "numbers": None if self._run is None else self._run.numbers(),
        }

    def _new_run(self, vectors: Tensor | None = None, numbers: dict[str, Any] | None = None) -> Run:
        layout = Layout([p for group in self.param_groups for p in group["params"]])
        lr = self.param_groups[0]["lr"] or LR  # 0 is a scheduler's that begins there
        return Run(layout, self.plan, self.settings, lr, vectors, numbers)

    def _hold(self, run: Run | None) -> None:
        """Take a state; `state` shows each parameter's part of it."""
        self._run = run
        self.state.clear()
        if run is not None:
            views = run.layout.views(run.vectors)
            for p, vectors in zip(run.layout.params, views, strict=True):
                self.state[p] = {"vectors": vectors}

    def _read_state(self, state_dict: dict[str, Any]) -> Run | None:
        """Return the state in a state dict; a ValueError says why it can't be ours."""
        sizes = [len(group["params"]) for group in self.param_groups]
        check_saved(state_dict, self.plan, self.settings.pairs, sizes, self.base is not None)
        numbers = state_dict["param_groups"][0]["secant"]["numbers"]
        if numbers is None:
            return None
        try:
            run = self._new_run(numbers=numbers)
        except KeyError as missing:
            raise ValueError(
                f"the state dict has no entry {missing}: it is of another version of SecantTO, "
                "which alone can load it."
            ) from missing
        copy_vectors(state_dict, run.layout.views(run.vectors))
        return run
