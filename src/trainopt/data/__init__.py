"""The data the optimizers are compared on: named sets, and a user's own file."""

from trainopt.data.dataset import Dataset, Features
from trainopt.data.file import load_file
from trainopt.data.sources import DATASETS, load

__all__ = ["DATASETS", "Dataset", "Features", "load", "load_file"]
