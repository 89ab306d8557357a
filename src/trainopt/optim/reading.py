"""The vectors of an estimator as its A reads them: what conditions and monitors ask about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..forms import Form
from .model import Model, gathered, joint_vector, own_vector, real

if TYPE_CHECKING:
    from .estimator import Estimator


_PIECE = 1 << 16  # numbers


class ReadVector(NamedTuple):
    """One vector w of an estimator.

    Attributes:
        params: its parameters.
        model: by which its gradient is modelled.
        x: what A reads; of several tensors, flat and in one piece.
        variables: θ, likewise.
    """

    params: list[Tensor]
    model: Model
    x: Tensor
    variables: list[Tensor]

    def wide(self) -> ReadVector:
        """Return the same in float64, but for a dense A, which is left as it is."""
        dense = self.model.form.dense
        variables = self.variables if dense else [v.double() for v in self.variables]
        return self._replace(x=self.x.double(), variables=variables)

    def parts(self) -> Iterator[ReadVector]:
        """Yield the same in float64: where entries are apart, in pieces that a cache holds."""
        form = self.model.form
        if not (form.elementwise and form.like_weights):
            yield self.wide()
            return
        flat = [torch.split(y.reshape(-1), _PIECE) for y in (self.x, *self.variables)]
        for x, *variables in zip(*flat, strict=True):
            yield self._replace(x=x, variables=variables).wide()

    def gains(self) -> tuple[Tensor, Tensor]:
        """Return the least and the largest of what α is multiplied with; see `Form.gain`."""
        form = self.model.form
        most = form.gain(self.x, *self.variables)
        one = type(form).least_gain is Form.least_gain
        return most if one else form.least_gain(self.x, *self.variables), most

    def rate(self, alpha: float) -> Tensor:
        """Return η, the rate of the learning rule at α: 0-dim, or shaped as x."""
        found = self.model.rule.rate(self.model.form, self.x, self.variables, alpha)
        return torch.as_tensor(found, dtype=self.x.dtype, device=self.x.device)

    def norm_of_A(self) -> float:
        """Return ‖A‖, Frobenius."""
        return float(self.model.form.norm(self.x, *self.variables))


def read_vectors(
    optimizer: Estimator, group: dict[str, Any], params: set[Tensor]
) -> Iterator[ReadVector]:
    """Yield the vectors of a param group that lie in `params`, which have numbers.

    Without state yet, θ is that of a start. A sharded parameter is gathered, which all processes
    must do together.
    """
    model, vector = optimizer.model(group), joint_vector(group)
    found = [p for p in group["params"] if p in params]
    for each in [found] if found and vector else [[p] for p in found]:
        weights = [gathered(real(p.detach())) for p in each]
        states = []
        for p, w in zip(each, weights, strict=True):
            state = optimizer.state.get(p)
            if not state:
                state = _start(model, w, vector or own_vector(p))
            states.append({name: gathered(value) for name, value in state.items()})

        def joined(name: str, pieces: list[Tensor], weights: Any = weights) -> Tensor:
            if name in model.form.variables and model.form.dense:
                return torch.cat(pieces) if len(pieces) > 1 else pieces[0]
            return (
                model.joined(name, pieces, [*map(Tensor.numel, weights)]) if vector else pieces[0]
            )

        variables = {name: joined(name, [s[name] for s in states]) for name in model.variables[:-1]}
        read_by = [variables[name] for name in model.reading.variables]
        x = model.reading.read(joined("b", weights), *read_by)
        yield ReadVector(each, model, x, [variables[name] for name in model.form.variables])


def moved_params(optimizer: Estimator) -> set[Tensor]:
    """Return the parameters that the next step moves; none is empty.

    Those with a gradient, or, while there is none, those with state, or, before the first step,
    those that require a gradient.
    """
    state = optimizer.state
    params = [p for group in optimizer.param_groups for p in group["params"] if p.numel()]
    for moves in (
        lambda p: p.grad is not None,
        lambda p: bool(state.get(p)),
        lambda p: p.requires_grad,
    ):
        if found := set(filter(moves, params)):
            return found
    return set(params)


def _start(model: Model, w: Tensor, vector: Any) -> dict[str, Tensor]:
    if model.form.dense:  # d² zeros, of which nobody asks more than their norm
        zeros = w.new_zeros(1, 1)
        return {**dict.fromkeys(model.variables, w), **dict.fromkeys(model.form.variables, zeros)}
    with torch.random.fork_rng(devices=[]):  # the start draws again when its time has come
        return model.init(w, w.dtype, vector)
