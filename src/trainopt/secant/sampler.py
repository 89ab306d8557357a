"""A batch sampler that reads the same rows in the same chunk in every pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler

from ..settings import check_count
from .plan import Plan


class ChunkSampler(Sampler[list[int]]):
    """Batches of row numbers: fixed chunks in a fixed order, rows shuffled within each chunk.

        sampler = ChunkSampler(dataset, batch_size=64)
        loader = DataLoader(dataset, batch_sampler=sampler)
        optimizer = SecantTO(model.parameters(), sampler)

    One permutation, drawn from `seed`, divides the rows into chunks of whole steps. Pass e shuffles
    the rows within each chunk, by `seed` and e alone: every process, and a run that is resumed,
    draws the same. A pass begins when the loader is iterated; each is the next one, unless
    `set_epoch` says which.

    Args:
        data: the data set, or its number of rows.
        batch_size: rows of a batch; under data parallelism, of one rank's batch.
        chunks: K; fewer where a pass has fewer steps. The state is 2K + 2M + 7 vectors of size d:
            with `pairs` left at 3K, 71 at K = 8 and 39 at K = 4, the choice for large models.
        accumulate: batches whose gradients are added up for one step of the optimizer.
        shuffle: False reads the rows of a chunk, and so the batches, in one order for ever.
        seed: of the permutation and the shuffles; the same on every rank.
        num_replicas: ranks of data parallelism. A batch of all ranks together is divided evenly
            among them; the rows left over by the division, fewer than `num_replicas`, are never
            read.
        rank: this process's.

    Attributes:
        plan: the `Plan` of a pass, for all ranks together.
        epoch: the number of the next pass.
        begun: how many passes have begun.
        start: the step at which the present pass began: 0, unless `seek` said otherwise.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.
    """

    def __init__(
        self,
        data: Sized | int,
        batch_size: int,
        chunks: int = 8,
        *,
        accumulate: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        rows = _length(data)
        counts = {"batch_size": batch_size, "chunks": chunks, "accumulate": accumulate}
        for name, value in {**counts, "num_replicas": num_replicas}.items():
            check_count(name, value)
        for name, value in {"rank": rank, "seed": seed}.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(
                    f"{name}={value!r} is a {type(value).__name__}: give a whole number."
                )
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed={seed} is too large: give a whole number of 64 bits.")
        if not isinstance(shuffle, bool):
            raise TypeError(
                f"shuffle={shuffle!r} is a {type(shuffle).__name__}: give True or False."
            )
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank={rank} is not one of {num_replicas} ranks: give 0 ≤ rank < it.")
        if rows < num_replicas:
            raise ValueError(f"data has {rows} rows, fewer than num_replicas={num_replicas}.")
        self.rows = rows - rows % num_replicas
        self.batch = batch_size * num_replicas
        self.shuffle, self.seed = shuffle, seed
        self.num_replicas, self.rank = num_replicas, rank
        self.accumulate = accumulate
        per_step = self.batch * accumulate
        self.plan = Plan.split(
            (min(per_step, self.rows - i) for i in range(0, self.rows, per_step)), chunks
        )
        self.epoch = self.begun = self.start = 0
        self._next_start = 0
        generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(rows, generator=generator)[: self.rows]

    def __len__(self) -> int:
        """Return how many batches a rank reads in a pass."""
        return math.ceil(self.rows / self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the next pass, which begins when the first of them is asked for.

        Not before: a `DataLoader` with workers makes an iterator that it throws away.
        """
        order = self._shuffled(self.epoch)
        self.begun += 1
        self.epoch += 1
        self.start, self._next_start = self._next_start, 0
        for i in range(self.start * self.accumulate * self.batch, self.rows, self.batch):
            rows: list[int] = order[i : i + self.batch][self.rank :: self.num_replicas].tolist()
            yield rows

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the number of the next pass.

        Raises:
            ValueError: `epoch` is negative or no whole number.
        """
        _check_clock("epoch", epoch)
        if epoch != self.epoch:
            self.epoch, self._next_start = epoch, 0

    def seek(self, steps: int) -> None:
        """Go on where an optimizer is that has taken `steps` steps: `seek(optimizer.steps)`.

        The next pass read is the one that those steps were in, from the step after them.

        Raises:
            ValueError: `steps` is negative or no whole number.
        """
        _check_clock("steps", steps)
        self.epoch, self._next_start = divmod(steps, self.plan.steps)

    def _shuffled(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return self._order
        # Not seed + epoch: run 0's second pass would be run 1's first.
        generator = torch.Generator().manual_seed((self.seed * 2**32 + epoch + 1) % 2**63)
        ends = [min(end * self.batch * self.accumulate, self.rows) for end in self.plan.ends]
        pieces = torch.tensor_split(self._order, ends[:-1])
        return torch.cat([p[torch.randperm(len(p), generator=generator)] for p in pieces])


def _length(data: Sized | int) -> int:
    if isinstance(data, int) and not isinstance(data, bool):
        return data
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"data={data!r} is a {type(data).__name__}: give a data set that has a length, or its "
            "number of rows; for an iterable, give SecantTO a Plan."
        ) from None


def _check_clock(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name}={value!r} is not allowed: give a whole number ≥ 0.")
