"""Are the loader's passes those of the plan?"""

from __future__ import annotations

from .plan import Followed
from .sampler import ChunkSampler


class Watch:
    """Compares the steps taken with the passes that a sampler or followed batches have begun.

    Passes without a step, as for an evaluation before or after a training pass, are no fault.
    """

    def __init__(self, source: ChunkSampler | Followed) -> None:
        self.source = source
        self._begun = self._within = self._due = 0

    def step(self, steps: int) -> None:
        """Count a step, the next after `steps` of them.

        Raises:
            RuntimeError: the loader's passes aren't the plan's; the step isn't counted.
        """
        source, length = self.source, self.source.plan.steps
        if not source.begun:  # it is another process, or a copy, that is read
            return
        if source.begun != self._begun:
            if self._within not in (0, self._due):
                raise RuntimeError(_wrong_length(str(self._within), self._due))
            if steps % length != source.start:
                raise RuntimeError(
                    f"the loader began its pass at step {source.start} and the optimizer is at "
                    f"step {steps % length}: call seek(optimizer.steps) on the ChunkSampler before "
                    "the loader goes on."
                )
            self._begun, self._within = source.begun, 0
            self._due = length - source.start
        elif self._within == self._due:
            raise RuntimeError(_wrong_length(f"more than {self._due}", self._due))
        self._within += 1


def _wrong_length(steps: str, due: int) -> str:
    return (
        f"the loader's pass took {steps} steps and the plan's takes {due}: give the optimizer the "
        "plan of this loader and this gradient accumulation, let every pass run to its end, and "
        "read the data for anything else through another loader; for batches drawn beforehand give "
        "sampler.plan, which isn't watched."
    )
