"""Data out of packages: fetched once, checked, unpacked; real sets are what their papers say."""

import gzip
import io
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest

from trainopt.bench.data import archive, load
from trainopt.bench.data.archive import Archive
from trainopt.bench.data.dataset import make_dataset
from trainopt.bench.data.named import SOURCES
from trainopt.bench.errors import InputError


def a_deb(files):
    """A Debian package by hand: `ar` with an odd-sized member before the tar of the files."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:xz") as whole:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            whole.addfile(info, io.BytesIO(content))
    members = {"debian-binary": b"2.0", "data.tar.xz": tar.getvalue()}
    deb = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        deb += header.encode() + content + b"\n" * (len(content) % 2)
    return deb


def digest(content):
    return archive.hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _own_cache(request, tmp_path, monkeypatch):
    if "real" not in request.keywords:
        monkeypatch.setenv("TRAINOPT_CACHE", str(tmp_path / "cache"))


def test_a_debian_package_is_fetched_once_and_read(monkeypatch):
    deb = a_deb({"./usr/share/a/one.csv": b"1,2", "./usr/share/a/two.csv": b"3"})
    asked = []
    monkeypatch.setattr(archive, "_download", lambda url: asked.append(url) or deb)
    package = Archive("debian", "a/a_1.deb", digest(deb), "MIT")
    assert package.read("a/one.csv") == b"1,2"
    assert package.read("a/two.csv") == b"3"
    assert asked == ["http://deb.debian.org/debian/pool/main/a/a_1.deb"]
    with pytest.raises(InputError, match=r"holds no three\.csv"):
        package.read("three.csv")


def test_the_archive_answers_when_the_mirror_has_dropped_the_package(monkeypatch):
    deb = a_deb({"x": b"1"})

    def download(url):
        if "deb.debian.org" in url:
            raise archive.URLError("404")
        return deb

    monkeypatch.setattr(archive, "_download", download)
    assert Archive("debian", "a/a_1.deb", digest(deb), "MIT").read("x") == b"1"


def test_a_wheel_is_read(monkeypatch):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        wheel.writestr("p/data.csv", "a,b")
    monkeypatch.setattr(archive, "_from_pypi", lambda name: content.getvalue())
    assert Archive("pypi", "p==1", digest(content.getvalue()), "MIT").read("data.csv") == b"a,b"


def test_another_file_is_refused_and_not_kept(monkeypatch):
    monkeypatch.setattr(archive, "_from_pypi", lambda name: b"something else")
    package = Archive("pypi", "p==1", digest(b"the file"), "MIT")
    with pytest.raises(InputError, match="isn't the file that was checked"):
        package.read("data.csv")
    assert not list(archive.cache().iterdir())


@pytest.mark.parametrize("error", [OSError("no route"), subprocess.CalledProcessError(1, "pip")])
def test_without_a_network_it_says_so(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(archive, "_from_pypi", fail)
    with pytest.raises(InputError, match="can't be fetched"):
        Archive("pypi", "p==1", "0", "MIT").read("data.csv")


def test_a_service_that_does_not_answer_is_an_input_error(monkeypatch):
    def fail():
        raise OSError("name not known")

    source = SOURCES["covtype"]
    monkeypatch.setitem(SOURCES, "covtype", source.__class__("t", "o", "l", fail))
    with pytest.raises(InputError, match="covtype comes from o, which doesn't answer"):
        load("covtype")


def test_raw_scaling_keeps_the_proportions_of_the_columns():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 10.0, 100.0]
    y = np.arange(50.0)
    data = make_dataset("d", x, y, (), "s", scaling="raw")
    features = data.x_train[:, :-1]
    assert np.square(features).mean() == pytest.approx(1.0)
    ratios = features.std(axis=0) / features.std(axis=0)[0]
    assert ratios[1] == pytest.approx(10, rel=0.5)
    assert ratios[2] == pytest.approx(100, rel=0.5)


def test_a_test_set_of_its_own_is_held_out():
    x, y = np.arange(20.0)[:, None], np.arange(20) % 2
    data = make_dataset("d", x, y, ("a", "b"), "s", scaling=1.0, held_out=6)
    np.testing.assert_array_equal(data.x_val[:, 0], np.arange(14.0, 20.0))


# rows, features without the bias, classes, and the share of the largest class, from outside.
REAL = {
    "vehicle": (846, 18, 4, 0.26),
    "ionosphere": (351, 33, 2, 0.64),
    "spam": (4601, 57, 2, 0.61),
    "cells": (2019, 57, 2, 0.64),
    "adult": (32561, 99, 2, 0.76),
    "diamonds": (53940, 23, None, None),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_what_they_should_be(name):
    rows, features, classes, largest = REAL[name]
    try:
        data = load(name)
    except InputError as reason:
        pytest.skip(str(reason))
    assert len(data.y_train) + len(data.y_val) == rows
    assert data.x_train.shape[1] - 1 == features
    assert data.classes == classes
    if classes:
        assert np.bincount(data.y_train).max() / len(data.y_train) == pytest.approx(
            largest, abs=0.01
        )


def test_gzip_is_what_idx_files_are(monkeypatch):
    """Fashion-MNIST's files: a header, then one byte a pixel or label."""
    from trainopt.bench.data import named

    def read(member):
        if "images" in member:
            return gzip.compress(b"h" * 16 + bytes(range(2)) * 784)
        return gzip.compress(b"h" * 8 + bytes([3, 4]))

    monkeypatch.setattr(named, "_FASHION", type("Fake", (), {"read": staticmethod(read)}))
    x, y, labels = named._fashion()
    assert x.shape == (4, 784)
    assert y.tolist() == [3, 4, 3, 4]
    assert len(labels) == 10
    assert x.max() == 1
