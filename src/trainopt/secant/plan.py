"""The plan of a pass: how many rows each step reads, and which chunk they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import index
from typing import Any, NamedTuple, SupportsIndex

from ..settings import check_count


class Place(NamedTuple):
    """Where in a pass a step stands.

    Attributes:
        chunk: the chunk that its rows belong to.
        rows: how many rows its gradient is the mean of.
        first: whether it is the chunk's first step of the pass.
        last: whether it is the chunk's last step of the pass.
    """

    chunk: int
    rows: int
    first: bool
    last: bool


@dataclass(frozen=True)
class Plan:
    """A pass over the data: steps in order, grouped into chunks of consecutive steps.

    Every pass reads the same rows in the same chunk; their order within the chunk is free.

    Attributes:
        rows: the number of rows of each step; under data parallelism, of all ranks together.
        ends: for each chunk, the number of steps up to its end; the last is len(rows).

    Raises:
        TypeError: a number isn't whole.
        ValueError: a step has no rows, or `ends` doesn't divide the steps into chunks.
    """

    rows: tuple[int, ...]
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        # Python's own integers, which every state dict can hold; NumPy's become those.
        for name in ("rows", "ends"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if not self.rows or min(self.rows) < 1:
            fault = "rows is empty" if not self.rows else f"rows has a {min(self.rows)}"
            raise ValueError(f"{fault}: give each step of a pass its number of rows, at least 1.")
        edges = (0, *self.ends)
        if edges[-1] != len(self.rows) or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(
                f"ends={self.ends!r} must increase up to the number of steps, {len(self.rows)}."
            )

    @classmethod
    def split(cls, rows: Iterable[int], chunks: int = 8) -> Plan:
        """Divide the steps of a pass into chunks of nearly equally many steps.

        Args:
            rows: how many rows each step of a pass reads.
            chunks: K; fewer where a pass has fewer steps.
        """
        rows = _whole("rows", rows)
        if isinstance(chunks, SupportsIndex) and not isinstance(chunks, bool):
            chunks = index(chunks)
        check_count("chunks", chunks)
        count = max(1, min(chunks, len(rows)))
        ends = tuple(round(k * len(rows) / count) for k in range(1, count + 1))
        return cls(rows, ends)

    @property
    def steps(self) -> int:
        """How many steps a pass has."""
        return len(self.rows)

    @property
    def chunks(self) -> int:
        """K, how many chunks a pass has."""
        return len(self.ends)

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """p_k: each chunk's part of the rows."""
        total = sum(self.rows)
        starts = (0, *self.ends[:-1])
        return tuple(sum(self.rows[a:b]) / total for a, b in zip(starts, self.ends, strict=True))

    @cached_property
    def places(self) -> list[Place]:
        """The place of each step of a pass."""
        starts = (0, *self.ends[:-1])
        return [
            Place(chunk, self.rows[step], step == start, step == end - 1)
            for chunk, (start, end) in enumerate(zip(starts, self.ends, strict=True))
            for step in range(start, end)
        ]

    def follow(self, batches: Iterable[Any]) -> Followed:
        """Return the same batches, watched, so that a pass of another length is noticed.

        Raises:
            TypeError: `batches` can't be read more than once.
        """
        return Followed(self, batches)


def _whole(name: str, values: Iterable[Any]) -> tuple[int, ...]:
    """Return Python's own integers; a TypeError says which one isn't whole."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(
            f"{name}={values!r} is a {type(values).__name__}: give a sequence of whole numbers."
        )
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError(
                f"{name} has {value!r}, a {type(value).__name__}: give whole numbers only."
            )
        found.append(index(value))
    return tuple(found)


class Followed:
    """Batches of any kind that are read by a plan; give it to the optimizer as its plan.

    Attributes:
        plan: the plan of a pass.
        begun: how many passes have begun.
        start: the step at which the present pass began; always 0.
    """

    start = 0

    def __init__(self, plan: Plan, batches: Iterable[Any]) -> None:
        again = hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
        if isinstance(batches, Iterator) or not again:
            raise TypeError(
                f"batches={batches!r} is a {type(batches).__name__}: give what can be iterated "
                "again in every pass, such as a DataLoader or a list."
            )
        self.plan = plan
        self.batches = batches
        self.begun = 0

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass."""
        self.begun += 1
        return iter(self.batches)
