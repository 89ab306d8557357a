"""The optimizers: estimators of the full gradient, and those that step along their estimate."""

from .diagonal import DiagonalTO
from .estimator import Estimator
from .full import FullTO
from .rank_one import RankOneTO
from .stepping import TO, TrainableOptimizer

__all__ = ["TO", "DiagonalTO", "Estimator", "FullTO", "RankOneTO", "TrainableOptimizer"]
