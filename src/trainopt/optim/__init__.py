"""The optimizers: estimators of the full gradient, and those that step along their estimate."""

from .diagonal import DiagonalTO
from .estimator import Estimator
from .full import FullTO
from .guard import Guard
from .rank_one import RankOneTO
from .response import InstabilityError
from .stepping import TO, TrainableOptimizer

__all__ = [
    "TO",
    "DiagonalTO",
    "Estimator",
    "FullTO",
    "Guard",
    "InstabilityError",
    "RankOneTO",
    "TrainableOptimizer",
]
