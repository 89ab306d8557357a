"""Trainable Optimizers for PyTorch: they learn a linear model of the full gradient as they train.

Ĝ = A·w + b, with A and b trained by gradient descent on ½‖g − A·w − b‖² beside the weights
(Wang and Klabjan, "A Trainable Optimizer", arXiv 2508.01764).
"""

from .conditions import Condition, iterates_bounded, residual_factors, variables_bounded
from .estimated import Estimated
from .optim import DiagonalTO, FullTO, RankOneTO
from .schedules import Constant, Exponential, InverseTime, Schedule
from .secant import ChunkSampler, SecantTO

__version__ = "0.1.0"

__all__ = [
    "ChunkSampler",
    "Condition",
    "Constant",
    "DiagonalTO",
    "Estimated",
    "Exponential",
    "FullTO",
    "InverseTime",
    "RankOneTO",
    "Schedule",
    "SecantTO",
    "iterates_bounded",
    "residual_factors",
    "variables_bounded",
]
