"""SecantTO: the full gradient's linear model, trained by secants over fixed chunks of the data."""

from .optimizer import SecantTO
from .plan import Plan
from .sampler import ChunkSampler

__all__ = ["ChunkSampler", "Plan", "SecantTO"]
