"""The cache: where it is, whose it is, and that only intact files come out of it."""

import os
import time
from pathlib import Path

import pytest

from trainopt.cache import cache, keep, kept, unfinished

posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of the test's own, and no other say about the cache."""
    for name in ("TRAINOPT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "a home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "a home"


def test_where_it_is(home, tmp_path, monkeypatch):
    assert cache() == home / ".cache" / "trainopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert cache() == home / ".cache" / "trainopt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache() == tmp_path / "xdg" / "trainopt"
    monkeypatch.setenv("TRAINOPT_CACHE", "~/chosen")
    assert cache() == home / "chosen"
    monkeypatch.setenv("TRAINOPT_CACHE", "here")
    assert cache() == tmp_path / "here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a home", "here", "xdg"]


def test_without_a_home_it_says_what_to_set(monkeypatch):
    def home(cls):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(home))
    with pytest.raises(OSError, match=r"no home folder .* set TRAINOPT_CACHE"):
        cache()
    monkeypatch.setenv("TRAINOPT_CACHE", "~nobody-of-this-name/x")
    with pytest.raises(OSError, match="no home folder"):
        cache()


@posix
def test_what_it_makes_is_its_users_alone(home):
    before = os.umask(0)
    try:
        path = keep(b"content", "name", ".x")
    finally:
        os.umask(before)
    for folder in (home, home / ".cache", path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o644


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(home, mode):
    cache().chmod(mode)
    with pytest.raises(OSError, match=r"trainopt can be written to by other users: set TRAINOPT_C"):
        cache()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_files_of_others_are_refused():
    path = keep(b"content", "name", ".x")
    os.chown(path, 12345, -1)
    assert list(kept("name", ".x")) == []
    os.chown(cache(), 12345, -1)
    with pytest.raises(OSError, match=r"belongs to another user \(number 12345\)"):
        cache()


def test_only_intact_files_come_out():
    one, other = keep(b"one", "name-1", ".x"), keep(b"other", "name-2", ".x")
    assert list(kept("name-1", ".x")) == [one]
    assert list(kept("name-*", ".x")) == [one, other]
    assert list(kept("name-1", ".y")) == []
    for damaged in (b"", b"on", b"onf"):
        one.write_bytes(damaged)
        assert list(kept("name-*", ".x")) == [other]
        assert not one.exists()
        assert keep(b"one", "name-1", ".x") == one
    if os.name == "posix":
        one.chmod(0o666)  # whoever can write it can give it a name that fits
        assert list(kept("name-1", ".x")) == []


def test_nothing_is_left_of_work_that_was_stopped():
    def stopped():
        with unfinished() as folder:
            (folder / "half").write_text("done")
            raise KeyboardInterrupt

    killed, under_way = cache() / "unfinished-killed", cache() / "unfinished-under-way"
    for folder in (killed, under_way):
        folder.mkdir()
        (folder / "half").write_text("done")
    os.utime(killed, (time.time() - 7200,) * 2)
    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(cache().iterdir()) == [under_way]
