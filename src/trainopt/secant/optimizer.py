"""SecantTO: the weights stand still while a chunk is read, then step along a learned −A⁻¹Ĝ."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ..optim.response import Action, Response
from .base import RESTART, SLOWER, sgd, slow_down
from .descent import Descent, Settings
from .guard import rests
from .layout import Layout, real, total_norm
from .plan import Followed, Plan
from .sampler import ChunkSampler
from .saved import check_saved, copy_vectors
from .watch import Watch


class SecantTO(Optimizer):
    """A Trainable Optimizer whose A is trained by secants over fixed chunks of the data.

    The data are read in K chunks, the same rows in the same chunk in every pass. Chunk k keeps its
    mean gradient c_k at the point u_k of its last visit, and a BFGS matrix B_k of secant pairs:

        Ĝ(w) = Σ p_k [c_k + B_k (w − u_k)] = A w + b,    w ← w − A⁻¹ Ĝ(w)   at each chunk's end.

    Every row counts once in Ĝ, so that sampling noise cancels in it instead of being averaged. The
    first passes are the base optimizer's; from then on the weights rest while a chunk is read.

    Each step costs a multiply-add per weight; a chunk's end O((K + M) d + K M³). The state is
    (2K + 2M + 7) d numbers, at least float32, on the device of the first parameter.

    The objective must be fixed: each row's gradient at given weights is always the same. Dropout,
    augmentation, batch norm over shuffled batches and a loader that shuffles all rows break that.
    One chunk is read a second time at its old point, early in the secant phase, to see; if the
    gradients differ, a warning says so once, and the weights move once a pass, or, if even
    whole passes differ, by the base optimizer alone.

    Related: SAG and IAG (no B_k); incremental quasi-Newton (Mokhtari, Eisen, Ribeiro 2018; a dense
    B_k each). See docs/secant.md.

    Args:
        params: parameters or param groups; groups may have their own `lr` and `weight_decay`.
        plan: the `ChunkSampler` that the loader reads by, or a `Plan`, or what `Plan.follow`
            returned. With a sampler or followed batches, a pass whose length isn't the plan's is
            noticed.
        lr: rate of the base phase's SGD, lr / (1 + passes); not used with `base`.
        weight_decay: λ of an L2 term λ/2 ‖w‖² in the objective, as in `torch.optim.SGD`; to be left
            as it is during a run. Decay beside the objective, as in AdamW, would move the weights
            away from where Ĝ = 0.
        pairs: M; None is 3K, and at least 10. With fewer than 2K it is unsteady.
        first: passes of the base phase, at least 1.
        base: an optimizer of the same parameters to take the base phase's steps, with the rates
            and decay of its own; None is SGD.
        scale: the curvature where no pair says another, as a part of yᵀy/sᵀy of the newest pair.
        trust: how many times the last step, or the distance to the farthest u_k, a step may be.
        patience: passes without a new lowest ‖Ĝ‖ after which the weights move half as often.
        on_instability: what to do about a gradient that isn't finite, and about one that has grown
            so much that the base phase begins anew. "raise": an `InstabilityError`, nothing has
            been changed. "skip": the weights stay, and the chunk that the step belongs to isn't
            used. "reset", "warn": what is done by default, and a warning, once for each of the two.
            Default: None; the base phase begins anew, at a lower rate and where it began, or the
            chunk isn't used, without a word.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        plan: ChunkSampler | Plan | Followed,
        lr: float = 0.3,
        *,
        weight_decay: float = 0.0,
        pairs: int | None = None,
        first: int = 2,
        base: Optimizer | None = None,
        scale: float = 0.5,
        trust: float = 3.0,
        patience: int = 3,
        on_instability: Action | None = None,
    ) -> None:
        if not isinstance(plan, ChunkSampler | Plan | Followed):
            raise TypeError(
                f"plan={plan!r} is a {type(plan).__name__}: give a ChunkSampler, a Plan, or what "
                "Plan.follow returned."
            )
        self.plan = plan if isinstance(plan, Plan) else plan.plan
        pairs = max(10, 3 * self.plan.chunks) if pairs is None else pairs
        for name, value in {"pairs": pairs, "first": first, "patience": patience}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} is not allowed: give a whole number ≥ 1.")
        _check_number("scale", scale, positive=True)
        _check_number("trust", trust, positive=True)
        self.settings = Settings(pairs, first, scale, trust, patience)
        self.base = base
        self.response = None if on_instability is None else Response(on_instability)
        self._watch = None if isinstance(plan, Plan) else Watch(plan)
        self._descent: Descent | None = None
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        if base is not None:
            own = {p for group in self.param_groups for p in group["params"]}
            if {p for group in base.param_groups for p in group["params"]} != own:
                raise ValueError(
                    f"base={type(base).__name__} holds other parameters than `params`: build it of "
                    "the same ones."
                )

    # What a user calls ------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """The number of steps taken: with a `ChunkSampler`, where to `seek` to go on."""
        return 0 if self._descent is None else self._descent.progress.steps

    @overload
    def step(self, closure: None = None, *, loss: float | Tensor | None = None) -> None: ...

    @overload
    def step(
        self, closure: Callable[[], float], *, loss: float | Tensor | None = None
    ) -> float: ...

    def step(
        self,
        closure: Callable[[], float] | None = None,
        *,
        loss: float | Tensor | None = None,
    ) -> float | None:
        """Take the plan's next step.

        Args:
            closure: evaluates the model again and returns the loss.
            loss: the mean loss of the step's rows, without the term of `weight_decay`; under data
                parallelism, of all ranks. Where it is known at every step, of a closure or given
                here, the length of the steps follows what it did (a trust region) instead of
                gradients alone.

        Returns:
            What `closure` returned, or None.

        Raises:
            RuntimeError: the parameters are not those of the first step, or the loader's passes
                aren't the plan's; nothing has been changed.
            TypeError: a gradient is sparse; nothing has been changed.
            ValueError: `loss` isn't one number; nothing has been changed.
        """
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = loss = closure()
        with torch.no_grad():
            notice = self._advance(_number(loss))
        if notice:
            warnings.warn(notice, stacklevel=3)  # torch wraps this method once
        return value

    def estimate(self, param: Tensor) -> Tensor:
        """Return Ĝ at the weights before the last move, for `param`: its shape, the state's dtype.

        Raises:
            KeyError: `param` isn't one of the optimizer's, or no move was made yet.
        """
        descent = self._descent
        if descent is not None and descent.progress.moved and param in self.state:
            row = Descent.SINGLE.index("gradient") - len(Descent.SINGLE)
            value: Tensor = self.state[param]["vectors"][row]
            return torch.view_as_complex(value) if param.is_complex() else value
        raise KeyError(
            f"no estimate for the parameter of shape {tuple(param.shape)}: ask once the base phase "
            "has ended, for a parameter of this optimizer."
        )

    def residual_norm(self) -> Tensor:
        """Return ‖e‖ of the last chunk read, e = c' − (c_k + B_k (w − u_k)): a 0-dim tensor.

        Raises:
            RuntimeError: no chunk was read twice yet.
        """
        residual = math.nan if self._descent is None else self._descent.progress.residual
        if math.isnan(residual):
            raise RuntimeError("no residual yet: ask after the first two passes.")
        return torch.tensor(residual)

    def memory(self) -> list[int]:
        """Return the bytes of optimizer state held now, one number per param group.

        State is allocated by the first step; before it, the answer is 0. The small matrices, some
        (2M)² float64, are counted in the first group; what `base` holds is not counted.
        """
        descent = self._descent
        if descent is None:
            return [0] * len(self.param_groups)
        number = descent.vectors.element_size() * len(descent.vectors)
        held = [
            number * sum(real(p).numel() for p in group["params"]) for group in self.param_groups
        ]
        small = descent.model.small().values()
        held[0] += sum(value.nbytes for value in small if isinstance(value, Tensor))
        return held

    # A step -----------------------------------------------------------------------------------

    def _layout(self) -> Layout:
        """Return how the parameters lie in a vector, having made sure that they are the same."""
        params = [p for group in self.param_groups for p in group["params"]]
        if self._descent is None:
            return Layout(params)
        layout = self._descent.layout
        for p, shape in zip(params, layout.shapes, strict=False):
            if real(p).shape != shape:
                raise RuntimeError(
                    f"a parameter of shape {tuple(p.shape)} had the shape {tuple(shape)} at the "
                    "first step: build a new SecantTO for the changed model."
                )
        if [*map(id, params)] != [*map(id, layout.params)]:
            raise RuntimeError(
                f"the optimizer holds {len(params)} parameters that are not the "
                f"{len(layout.params)} of the first step: build a new SecantTO for the changed "
                "model."
            )
        return layout

    def _advance(self, loss: float) -> str | None:
        """Take a step; return what the user has to be told."""
        layout = self._layout()
        grads = layout.gradients()
        norm = total_norm(grads)
        stays = self.response is not None and rests(norm, self._descent, self.response)
        if self._watch is not None:
            self._watch.step(self.steps)
        descent = self._descent or self._new_descent(None, None)
        if self._descent is None:
            self._hold(descent)
        progress = descent.progress
        place = self.plan.places[progress.steps % self.plan.steps]
        progress.steps += 1
        if not progress.retired:
            descent.add(place, grads, norm, loss)
        if not (progress.secant or stays):
            self._base_step(descent, norm)
        if place.last and not progress.retired:
            descent.end_chunk(place.chunk, self._decay())
        notice, descent.notice = descent.notice, None
        return notice

    def _base_step(self, descent: Descent, norm: float) -> None:
        progress = descent.progress
        if not progress.reference and math.isfinite(norm):
            progress.reference = norm
        if not norm <= RESTART * progress.reference:
            descent.restart()
            progress.reference *= SLOWER
            progress.slower /= SLOWER
            if self.base is not None:
                slow_down(self.base)
        elif self.base is not None:
            self.base.step()
        else:
            sgd(self.param_groups, progress.slower / (1 + progress.base_steps / self.plan.steps))
            progress.base_steps += 1

    def _decay(self) -> list[float]:
        """Return the weight decay of each parameter."""
        return [group["weight_decay"] for group in self.param_groups for _ in group["params"]]

    # What torch calls -------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, before the first step; see `torch.optim.Optimizer`.

        Raises:
            RuntimeError: a step was taken; nothing has been changed.
            TypeError, ValueError: `lr` or `weight_decay` isn't a finite number ≥ 0.
        """
        if self._descent is not None:
            raise RuntimeError(
                "a param group can't be added after the first step, whose objective was another "
                "one: build a new SecantTO for all parameters."
            )
        for name in ("lr", "weight_decay"):
            _check_number(name, {**self.defaults, **param_group}[name])
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return what torch's optimizers return, and "secant": numbers, plan; "base": its own."""
        kept = super().state_dict()
        kept["secant"] = self._numbers()
        if self.base is not None:
            kept["base"] = self.base.state_dict()
        return kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; a run goes on bit for bit, in a chunk's middle too.

        Raises:
            ValueError: the state is another optimizer's, another plan's, or of other shapes;
                nothing has been changed.
        """
        loaded: list[Descent | None] = []

        def see(_: Optimizer, final: dict[str, Any]) -> None:
            loaded.append(self._read_state(final))
            if self.base is not None:
                self.base.load_state_dict(final["base"])

        def restore(_: Optimizer) -> None:
            self._hold(loaded[0])
            if self._watch is not None:
                self._watch = Watch(self._watch.source)

        # The last pre-hook sees what every other one made of the state dict, and the first
        # post-hook puts the state right before any other one looks at it.
        handles = (
            self.register_load_state_dict_pre_hook(see),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        kept = super().__getstate__()
        descent = self._descent
        return {
            **kept,
            "state": defaultdict(dict),  # views, which a pickle would make tensors of their own
            "plan": self.plan,
            "settings": self.settings,
            "base": self.base,
            "response": self.response,
            "_vectors": None if descent is None else descent.vectors,
            "_kept": self._numbers(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_kept" not in state:  # what load_state_dict gives
            super().__setstate__(state)
            return
        vectors, kept = state.pop("_vectors"), state.pop("_kept")
        self._watch = None  # a copy doesn't watch the loader of the original
        super().__setstate__(state)
        self._hold(None if vectors is None else self._new_descent(vectors, kept["numbers"]))

    def _numbers(self) -> dict[str, Any]:
        """Return everything of the state that isn't of size d."""
        return {
            "plan": asdict(self.plan),
            "pairs": self.settings.pairs,
            "numbers": None if self._descent is None else self._descent.numbers(),
        }

    def _new_descent(self, vectors: Tensor | None, numbers: dict[str, Any] | None) -> Descent:
        layout = Layout([p for group in self.param_groups for p in group["params"]])
        return Descent(
            layout, self.plan, self.settings, self.param_groups[0]["lr"], vectors, numbers
        )

    def _hold(self, descent: Descent | None) -> None:
        """Take a state; `state` shows each parameter's part of it."""
        self._descent = descent
        self.state.clear()
        if descent is not None:
            views = descent.layout.views(descent.vectors)
            for p, vectors in zip(descent.layout.params, views, strict=True):
                self.state[p] = {"vectors": vectors}

    def _read_state(self, state_dict: dict[str, Any]) -> Descent | None:
        """Return the state in a state dict; a ValueError says why it can't be ours."""
        sizes = [len(group["params"]) for group in self.param_groups]
        check_saved(state_dict, self.plan, self.settings.pairs, sizes, self.base is not None)
        numbers = state_dict["secant"]["numbers"]
        if numbers is None:
            return None
        descent = self._new_descent(None, numbers)
        copy_vectors(state_dict, descent.layout.views(descent.vectors))
        return descent


def _number(loss: float | Tensor | None) -> float:
    if loss is None:
        return math.nan
    if isinstance(loss, Tensor) and loss.numel() != 1:
        raise ValueError(
            f"loss has the shape {tuple(loss.shape)}: give one number, the mean over the step's "
            "rows."
        )
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _check_number(name: str, value: Any, positive: bool = False) -> None:
    wanted = "a finite number > 0" if positive else "a finite number ≥ 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: give {wanted}.")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name}={value} is not allowed: give {wanted}.")
