"""Do the rows of a chunk have the same gradients at its next visit?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Repeats:
    """How much of what the chunks did the model had not foretold, pass by pass.

    Attributes:
        error: Σ p‖e‖ of the present pass.
        change: Σ p‖y‖ of it.
        ratios: of each of the last passes; by losses where they are given.
    """

    error: float = 0.0
    change: float = 0.0
    ratios: list[float] = field(default_factory=list)
