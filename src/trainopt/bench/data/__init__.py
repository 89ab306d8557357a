"""The data the optimizers are compared on: named sets, and a user's own file."""

from trainopt.bench.data.dataset import Dataset, Features
from trainopt.bench.data.file import load_file
from trainopt.bench.data.named import DATASETS, load

__all__ = ["DATASETS", "Dataset", "Features", "load", "load_file"]
