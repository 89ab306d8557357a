"""A model on a data set: the objective an optimizer is given, and how it is judged."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from trainopt.convex.models.model import Model
from trainopt.data import Dataset, Features


class Problem:
    """F(W) = mean_i ℓ(x_i W, y_i) + (l2/2)‖W‖² over the training rows, in mini-batches.

    Attributes:
        name: what the problem is called in results.
        dataset: the data.
        model: the loss ℓ.
        l2: strength of the regularisation; F is l2-strongly convex.
        batch_size: rows in a mini-batch.
        n: training rows.
        shape: the shape of the weights W, (features, outputs).
        dim: number of weights.
    """

    def __init__(
        self, name: str, dataset: Dataset, model: Model, l2: float = 1e-3, batch_size: int = 32
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.model = model
        self.l2 = l2
        self.batch_size = batch_size
        self.n, features = dataset.x_train.shape
        self.shape = (features, model.outputs(dataset))
        self.dim = self.shape[0] * self.shape[1]

    @cached_property
    def _train(self) -> dict[torch.dtype, tuple[Tensor | sparse.csr_array, Tensor]]:
        """The training rows in both precisions: float32 to train in, float64 to judge in."""
        x, y = self.dataset.x_train, self.dataset.y_train
        return {dtype: _as_torch(x, y, dtype) for dtype in (torch.float32, torch.float64)}

    @cached_property
    def _val(self) -> tuple[Tensor | sparse.csr_array, Tensor]:
        return _as_torch(self.dataset.x_val, self.dataset.y_val, torch.float64)

    def initial(self) -> Tensor:
        """Where every run starts: zeros, float32 (features, outputs)."""
        return torch.zeros(self.shape)

    def loss(self, w: Tensor, rows: Tensor | None = None) -> Tensor:
        """The objective with the mean over `rows` only, a scalar differentiable in `w`.

        Costs O(rows · features · outputs), for CSR data the stored values instead of
        rows · features.

        Args:
            w: float32 or float64 (features, outputs); the data are used in the same precision.
            rows: int64 (rows,), indices of training rows; None takes all.
        """
        x, y = self._train[w.dtype]
        targets = y if rows is None else y[rows]
        return self.model.loss(_scores(x, w, rows), targets) + self.l2 / 2 * w.square().sum()

    def full_gradient(self, w: Tensor) -> Tensor:
        """∇F(w) over all training rows, float64 (features, outputs)."""
        with torch.enable_grad():
            point = w.detach().double().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(point), point)
        return gradient

    @torch.no_grad()
    def objective(self, w: Tensor) -> float:
        """F(w) over all training rows, computed in float64."""
        return self.loss(w.double()).item()

    @torch.no_grad()
    def validate(self, w: Tensor) -> tuple[float, float]:
        """Mean loss without the l2 term, and accuracy (NaN for a regression), in float64."""
        x, y = self._val
        scores = _scores(x, w.double(), None)
        loss = self.model.loss(scores, y).item()
        if self.model.accuracy is None:
            return loss, float("nan")
        return loss, self.model.accuracy(scores, y).item()

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """One epoch: the training rows in random order, cut up; the last batch may be short."""
        return list(torch.split(torch.randperm(self.n, generator=generator), self.batch_size))

    def fingerprint(self) -> str:
        """SHA-256 in hex over data, model, l2 and batch size: equal for equal problems."""
        data = self.dataset
        digest = hashlib.sha256(repr((self.model.name, self.l2, self.batch_size)).encode())
        for part in (data.x_train, data.y_train, data.x_val, data.y_val):
            arrays = (part.data, part.indices, part.indptr) if sparse.issparse(part) else (part,)
            for array in arrays:
                # SciPy picks the width of its indices by itself.
                wide = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
                digest.update(repr((part.shape, wide.dtype.str)).encode())
                digest.update(np.ascontiguousarray(wide).tobytes())
        return digest.hexdigest()


def _as_torch(
    x: Features, y: NDArray[Any], dtype: torch.dtype
) -> tuple[Tensor | sparse.csr_array, Tensor]:
    """Data in one precision; a CSR matrix stays SciPy's, whose rows are cheap to pick."""
    targets = torch.from_numpy(y)
    if targets.is_floating_point():
        targets = targets.to(dtype)
    if sparse.issparse(x):
        rounded: Any = x.astype(str(dtype).removeprefix("torch."))
        return rounded, targets
    return torch.from_numpy(x).to(dtype), targets


def _scores(x: Tensor | sparse.csr_array, w: Tensor, rows: Tensor | None) -> Tensor:
    if isinstance(x, Tensor):
        return (x if rows is None else x[rows]) @ w
    part = (x if rows is None else x[rows.numpy()]).tocoo()
    indices = torch.from_numpy(np.stack([part.row, part.col]).astype(np.int64))
    values = torch.from_numpy(part.data)
    matrix = torch.sparse_coo_tensor(indices, values, part.shape, check_invariants=False)
    scores: Tensor = torch.sparse.mm(matrix, w)
    return scores
