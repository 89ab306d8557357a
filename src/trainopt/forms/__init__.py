"""The forms of A, one file each: how it begins and how it acts."""

from .blocks import Blocks
from .dense import Dense
from .diagonal import Diagonal
from .form import Form
from .kronecker import Kronecker
from .left import Left
from .low_rank import LowRank
from .rank_one import RankOne
from .zero import Zero

__all__ = [
    "Blocks",
    "Dense",
    "Diagonal",
    "Form",
    "Kronecker",
    "Left",
    "LowRank",
    "RankOne",
    "Zero",
]
