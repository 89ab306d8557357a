"""SecantTO: the weights stand still while a chunk is read, then step along a learned −A⁻¹Ĝ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ..optim.response import Action, Response
from .base import allocate, base_step, check_base
from .checkpoint import LR, Checkpointed
from .descent import add, end_chunk
from .guard import rests
from .layout import Layout, real, total_norm
from .plan import Followed, Plan
from .run import Run, Settings, check_room
from .sampler import ChunkSampler
from .watch import Watch


class SecantTO(Checkpointed):
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
        MemoryError: the state doesn't fit; the sentence names d, the bytes and the ways out.
    """

    def __init__(
        self,
        params: ParamsT,
        plan: ChunkSampler | Plan | Followed,
        lr: float = LR,
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
        self.settings = Settings(pairs, first, scale, trust, patience)
        self.base = base
        self.response = None if on_instability is None else Response(on_instability)
        self._watch = None if isinstance(plan, Plan) else Watch(plan)
        self._run: Run | None = None
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        check_base(base, self.param_groups)
        check_room(self._layout(), self.plan, pairs)

    # What a user calls ------------------------------------------------------------------------

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
            TypeError: a gradient is sparse, or `loss` or `closure` is of the wrong kind; nothing
                has been changed.
            ValueError: `loss` isn't one number; nothing has been changed.
        """
        value = None
        if closure is not None:
            if not callable(closure):
                raise TypeError(
                    f"closure={closure!r} is a {type(closure).__name__}: give a function that "
                    "returns the loss, or the loss itself as step(loss=...)."
                )
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
            TypeError: it isn't a tensor.
        """
        if not isinstance(param, Tensor):
            raise TypeError(
                f"param={param!r} is a {type(param).__name__}: give a parameter of this optimizer."
            )
        run = self._run
        if run is not None and run.progress.moved and param in self.state:
            row = Run.SINGLE.index("gradient") - len(Run.SINGLE)
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
        residual = None if self._run is None else self._run.residual()
        if residual is None:
            raise RuntimeError("no residual yet: ask after the first two passes.")
        return torch.tensor(residual)

    def memory(self) -> list[int]:
        """Return the bytes of optimizer state held now, one number per param group.

        State is allocated by the first step; before it, the answer is 0. The small matrices, some
        (2M)² float64, are counted in the first group; what `base` holds is not counted.
        """
        run = self._run
        if run is None:
            return [0] * len(self.param_groups)
        number = run.vectors.element_size() * len(run.vectors)
        held = [
            number * sum(real(p).numel() for p in group["params"]) for group in self.param_groups
        ]
        small = run.model.small().values()
        held[0] += sum(value.nbytes for value in small if isinstance(value, Tensor))
        return held

    # A step -----------------------------------------------------------------------------------

    def _layout(self) -> Layout:
        """Return how the parameters lie in a vector, having made sure that they are the same."""
        params = [p for group in self.param_groups for p in group["params"]]
        if self._run is None:
            return Layout(params)
        self._run.layout.check(params)
        return self._run.layout

    def _advance(self, loss: float) -> str | None:
        """Take a step; return what the user has to be told."""
        layout = self._layout()
        grads = layout.gradients()
        norm = total_norm(grads)
        if not self.steps and norm == 0 and not any(group["lr"] for group in self.param_groups):
            self._hold(self._new_run())  # the dummy step of torch.distributed.checkpoint
            if self.base is not None:
                allocate(self.base)
            return None
        before = self._run if self.steps else None
        stays = self.response is not None and rests(norm, before, self.response)
        if self._watch is not None:
            self._watch.step(self.steps)
        if not self.steps:
            if self._run is not None and self.base is not None:
                self.base.state.clear()
            self._hold(self._new_run())
        run = self._run
        assert run is not None
        progress = run.progress
        place = self.plan.places[progress.steps % self.plan.steps]
        progress.steps += 1
        if not progress.retired:
            add(run, place, grads, norm, loss)
        if not (progress.secant or stays):
            base_step(run, self.param_groups, self.base, norm)
        if place.last and not progress.retired:
            end_chunk(run, place.chunk, self._decay())
        notice, run.notice = run.notice, None
        return notice

    def _decay(self) -> list[float]:
        """Return the weight decay of each parameter."""
        return [group["weight_decay"] for group in self.param_groups for _ in group["params"]]


def _number(loss: object) -> float:
    if loss is None:
        return math.nan
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ValueError(
                f"loss has the shape {tuple(loss.shape)}: give one number, the mean over the "
                "step's rows."
            )
        loss = loss.detach().item()
    if isinstance(loss, bool) or not isinstance(loss, Real):
        raise TypeError(
            f"loss={loss!r} is a {type(loss).__name__}: give one number, the mean over the step's "
            "rows."
        )
    return float(loss)
