"""The optimizers: thin classes over the rules."""

from .base import TrainableOptimizer
from .diagonal import DiagonalTO
from .full import FullTO
from .rank_one import RankOneTO

__all__ = ["DiagonalTO", "FullTO", "RankOneTO", "TrainableOptimizer"]
