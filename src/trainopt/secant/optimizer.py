"""SecantTO: the weights stand still while a chunk is read, then step along a learned −A⁻¹Ĝ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from .control import Losses, Progress
from .detect import Repeats
from .layout import Layout, real
from .model import Model
from .plan import Followed, Place, Plan
from .sampler import ChunkSampler

RESTART = 10.0  # the base phase diverges where ‖g‖ is this many times the first one
RISE = 3.0  # an overshoot is grave where the slope has turned and is this many times as steep
FALLBACK = 30.0  # the model has failed where ‖Ĝ‖ is this many times its lowest
WORSE = 0.2  # a pass has failed where the loss is this part above its lowest

SINGLE = ("point_sum", "gradient_sum", "origin", "best", "gradient", "jump_s", "jump_y")
"""The single vectors of the state, after those of the model."""


class SecantTO(Optimizer):
    """TODO."""

    def __init__(
        self,
        params: ParamsT,
        plan: Plan | ChunkSampler | Followed,
        lr: float = 0.3,
        *,
        weight_decay: float = 0.0,
        pairs: int | None = None,
        first: int = 2,
        base: Optimizer | None = None,
        scale: float = 0.5,
        trust: float = 3.0,
        patience: int = 3,
    ) -> None:
        self.source = None if isinstance(plan, Plan) else plan
        self.plan = plan if isinstance(plan, Plan) else plan.plan
        self.pairs = 3 * self.plan.chunks if pairs is None else pairs
        self.first, self.scale, self.trust, self.patience = first, scale, trust, patience
        self.base = base
        self._layout: Layout | None = None
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._begin()

    def _begin(self) -> None:
        """Set everything to how it is before the first step."""
        self._places = self.plan.places()
        self._layout = None
        self._vectors: Tensor | None = None
        self._progress = Progress(until=self.first, moves=self.plan.chunks)
        self._losses = Losses([math.nan] * self.plan.chunks)
        self._repeats = Repeats()
        self._begun = self._within = self._due = 0
        self.state.clear()

    # What a user calls ------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self._progress.steps

    @overload
    def step(self, closure: None = None, *, loss: float | Tensor | None = None) -> None: ...

    @overload
    def step(
        self, closure: Callable[[], float], *, loss: float | Tensor | None = None
    ) -> float: ...

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], float] | None = None,
        *,
        loss: float | Tensor | None = None,
    ) -> float | None:
        """Take one step."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = loss = closure()
        layout, grads = self._read()
        place = self._place()
        if self._vectors is None:
            self._build(layout)
        norm = _norm(grads)
        progress = self._progress
        progress.steps += 1
        if progress.retired:
            self._base_step(norm)
        else:
            self._add(place, grads, norm, loss)
            if not progress.secant:
                self._base_step(norm)
            if place.last:
                self._end_chunk(place.chunk)
        return value

    # A step -----------------------------------------------------------------------------------

    def _read(self) -> tuple[Layout, list[Tensor | None]]:
        params = [p for group in self.param_groups for p in group["params"]]
        layout = self._layout or Layout(params)
        if any(real(p).shape != s for p, s in zip(params, layout.shapes)) or len(params) != len(layout.params) or any(p is not q for p, q in zip(params, layout.params)):
            raise RuntimeError("changed")
        grads = []
        for p in params:
            if p.grad is None:
                grads.append(None)
                continue
            if p.grad.layout != torch.strided:
                raise TypeError("sparse")
            grads.append(real(p.grad).to(layout.device))
        return layout, grads

    def _place(self) -> Place:
        return self._places[self._progress.steps % len(self._places)]

    def _build(self, layout: Layout, ) -> None:
        rows = 2 * self.plan.chunks + 2 * self.pairs
        self._layout = layout
        self._vectors = torch.zeros(
            rows + len(SINGLE), layout.size, dtype=layout.dtype, device=layout.device
        )
        self._model = Model(
            self.plan.shares, self.pairs, self._vectors[:rows], scale=self.scale,
            lr=self.param_groups[0]["lr"],
        )
        self._single = dict(zip(SINGLE, self._vectors[rows:]))
        self._sum_views = layout.views(self._single["gradient_sum"])
        self._single["best"].copy_(layout.weights())

    def _add(self, place, grads, norm, loss) -> None:
        progress, single = self._progress, self._single
        if place.first:
            progress.begin_chunk()
            single["point_sum"].zero_()
            single["gradient_sum"].zero_()
            if progress.secant:
                single["point_sum"].copy_(self._layout.weights())
        if not math.isfinite(norm):
            progress.spoiled = True
        if progress.spoiled:
            return
        if not progress.secant:
            single["point_sum"].add_(self._layout.weights(), alpha=place.rows)
        progress.rows += place.rows
        progress.norms += place.rows * norm
        progress.losses = progress.losses + place.rows * (math.nan if loss is None else float(loss))
        sums, terms = zip(*[(s, g) for s, g in zip(self._sum_views, grads) if g is not None])
        torch._foreach_add_(list(sums), list(terms), alpha=place.rows)

    def _base_step(self, norm: float) -> None:
        progress = self._progress
        progress.reference = progress.reference or (norm if math.isfinite(norm) else 0.0)
        if not norm <= RESTART * progress.reference:
            self._restart()
            return
        if self.base is not None:
            self.base.step()
            return
        decay = progress.slower / (1 + progress.base_steps / self.plan.steps)
        progress.base_steps += 1
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                grads = [p.grad for p in params]
                if group["weight_decay"]:
                    grads = torch._foreach_add(grads, params, alpha=group["weight_decay"])
                torch._foreach_add_(params, list(grads), alpha=-group["lr"] * decay)

    def _restart(self) -> None:
        progress = self._progress
        self._layout.write(self._single["best"])
        progress.reference *= 4
        progress.slower /= 4
        progress.base_steps = 0
        progress.spoiled = True
        if self.base is not None:
            self.base.state.clear()
            for group in self.base.param_groups:
                group["lr"] /= 4
        self._model.forget()
        progress.until = max(progress.until, progress.passes + 1)

    def _end_chunk(self, chunk: int) -> None:
        progress, single, model = self._progress, self._single, self._model
        end = chunk == self.plan.chunks - 1
        visit = None
        w = self._layout.weights()
        if progress.secant and not torch.equal(single["point_sum"], w):
            progress.spoiled = True
        if not progress.spoiled:
            u = single["point_sum"] if progress.secant else single["point_sum"] / progress.rows
            a = single["gradient_sum"] / progress.rows
            start = 0
            for group in self.param_groups:
                size = sum(real(p).numel() for p in group["params"])
                if group["weight_decay"]:
                    a[start:start + size].add_(u[start:start + size], alpha=group["weight_decay"])
                start += size
            by_chunk = progress.moves > 1 or not progress.secant
            visit = model.visit(chunk, u, a, push=by_chunk)
            if visit and not by_chunk:
                single["jump_s"].add_(visit.s, alpha=self.plan.shares[chunk])
                single["jump_y"].add_(visit.y, alpha=self.plan.shares[chunk])
                progress.jumps += 1
            if visit:
                progress.residual = visit.residual
                if progress.secant:
                    q = self._losses
                    q.see(chunk, progress.losses / progress.rows, visit.predicted)
                    p = self.plan.shares[chunk]
                    self._repeats.error += p * visit.residual
                    self._repeats.change += p * visit.change
                    self._repeats.__dict__.setdefault('curv', []).append((p*abs(float(visit.s@visit.y)-visit.s_bs), p*abs(float(visit.s@visit.y))))
                else:
                    self._losses.see(chunk, progress.losses / progress.rows, math.nan)
        elif progress.secant:
            self._layout.write(single["best"])
            progress.radius /= 4
            progress.slope = 0.0
        if end:
            progress.passes += 1
            if progress.jumps == self.plan.chunks:
                model.push_all(single["jump_s"], single["jump_y"])
            progress.jumps = 0
            single["jump_s"].zero_(), single["jump_y"].zero_()
            if progress.secant:
                cs = self._repeats.__dict__.pop('curv', [])
                self._repeats.ratios.append((self._repeats.error / (self._repeats.change + 1e-300), sum(c[0] for c in cs)/(sum(c[1] for c in cs)+1e-300), self._losses.ratio(self.plan.shares)))
                self._repeats.error = self._repeats.change = 0.0
        if not progress.secant:
            if not (end and progress.passes >= progress.until and bool(model.seen.all())):
                return
            progress.secant = True
            spread = float(torch.linalg.vector_norm(w - model.points, dim=1).max())
            progress.radius = self.trust * spread
            progress.slope = 0.0
            single["best"].copy_(w)
        known = self._losses.total(self.plan.shares)
        if not math.isnan(known):
            progress.radius *= self._losses.resize(self.plan.shares, progress.clipped)
        if end or (chunk + 1) % max(1, self.plan.chunks // progress.moves) == 0:
            self._move(chunk, end, known)

    def _move(self, chunk: int, end: bool, known: float) -> None:
        progress, single, model = self._progress, self._single, self._model
        by_loss = not math.isnan(known)
        w = self._layout.weights()
        move = model.at(w, chunk)
        if progress.slope < 0:
            s = w - single["origin"]
            now = float(move.gradient @ s)
            if now > -RISE * progress.slope:
                t = progress.slope / (progress.slope - now)
                w = w.sub_(s, alpha=1 - t)
                move = model.at(w, chunk)
                progress.radius = max(t, 0.1) * float(torch.linalg.vector_norm(s))
        size = float(torch.linalg.vector_norm(move.gradient))
        if end:
            merit = known if by_loss else size
            lowest = progress.low
            if progress.__dict__.setdefault('best_merit', math.inf) > merit:
                progress.best_merit = merit
                single["best"].copy_(w)
            elif by_loss and not merit <= progress.best_merit + WORSE * abs(progress.best_merit):
                w = single["best"].clone()
                progress.radius /= 4
                self._losses.forget_changes()
                move = model.at(w, chunk)
            elif not by_loss and not merit <= FALLBACK * progress.best_merit:
                self._fall_back()
                return
            if progress.end_pass(merit, self.plan.chunks, self.patience):
                model.clear()
                move = model.at(w, chunk)
        step = move.step
        if progress.damping(self.patience) > 1:
            step = step / progress.damping(self.patience)
        n = float(torch.linalg.vector_norm(step))
        if not math.isfinite(n):
            raise SystemExit("nonfinite step")
        progress.clipped = n > progress.radius
        if progress.clipped:
            step = step * (progress.radius / n)
        reach = max(min(n, progress.radius), move.spread)
        if by_loss:
            progress.radius = min(progress.radius, 100 * reach)
        else:
            progress.radius = self.trust * reach
        self._layout.write(w + step)
        new = self._layout.weights()
        single["origin"].copy_(w)
        single["gradient"].copy_(move.gradient)
        progress.slope = float(move.gradient @ (new - w))

    def _fall_back(self) -> None:
        progress = self._progress
        self._layout.write(self._single["best"])
        self._model.clear()
        progress.secant = False
        progress.best_merit = math.inf
        progress.reference = 0.0
        progress.base_steps = self.plan.steps * progress.passes
        progress.until = progress.passes + 1
        progress.falls = progress.__dict__.get("falls", 0) + 1


def _norm(grads) -> float:
    pieces = torch._foreach_norm([g for g in grads if g is not None])
    return float(torch.linalg.vector_norm(torch.stack([p.double() for p in pieces])))
