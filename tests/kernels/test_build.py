"""Kernels are compiled once, found again intact, and done without wherever that fails."""

import ctypes
import errno
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from trainopt import DiagonalTO
from trainopt.cache import keep
from trainopt.kernels import build

FLOAT = torch.float32
pytestmark = pytest.mark.skipif(
    not (shutil.which("c++") and os.name == "posix"), reason="needs a C++ compiler and sh"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The library for float32, compiled once for all tests: a cache folder that holds it."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINOPT_CACHE", str(folder))
        patch.delenv("CXX", raising=False)
        assert isinstance(build.library.__wrapped__(FLOAT, FLOAT), ctypes.CDLL)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache; what has been loaded is forgotten."""
    monkeypatch.setenv("TRAINOPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    build.library.cache_clear()
    yield tmp_path / "cache"
    build.library.cache_clear()


@pytest.fixture
def copied(compiled, folder):
    """A cache that holds the library."""
    shutil.copytree(compiled, folder)
    (path,) = folder.iterdir()
    return path


class Stub:
    """A compiler that writes its arguments down and copies a library to where -o says."""

    def __init__(self, path, made):
        self.path, self.log = path, path.with_name("log")
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {shlex.quote(str(self.log))}\n'
            f'for last; do :; done\ncp {shlex.quote(str(made))} "$last"\n'
        )
        path.chmod(0o755)

    def calls(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def stub(compiled, tmp_path, monkeypatch):
    (made,) = compiled.iterdir()
    stub = Stub(tmp_path / "with a space" / "g++", made)
    monkeypatch.setenv("CXX", str(stub.path))
    return stub


def found():
    return build.library.__wrapped__(FLOAT, FLOAT)


def a_step(**settings):
    p = torch.nn.Parameter(torch.arange(3.0))
    p.grad = torch.ones(3)
    optimizer = DiagonalTO([p], lr=0.1, beta=0.5, **settings)
    try:
        optimizer.step()
    except RuntimeError:
        assert p.tolist() == [0, 1, 2]
        raise
    return p.tolist()


def script(path, text):
    path.write_bytes(b"#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def no_home(patch, tmp_path):
    def home(cls):
        raise RuntimeError("Could not determine home directory.")

    for name in ("TRAINOPT_CACHE", "XDG_CACHE_HOME"):
        patch.delenv(name, raising=False)
    patch.setattr(Path, "home", classmethod(home))


def below_a_file(patch, tmp_path):
    (tmp_path / "file").touch()
    patch.setenv("TRAINOPT_CACHE", str(tmp_path / "file" / "cache"))


def shared(patch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)


def full(patch, tmp_path):
    def mkdtemp(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(tempfile, "mkdtemp", mkdtemp)


def nothing_in_path(patch, tmp_path):
    patch.setenv("PATH", str(tmp_path))


def cxx(command):
    return lambda patch, tmp_path: patch.setenv("CXX", command)


def speaks_latin_1(patch, tmp_path):
    said = b'printf "erreur: chou\\351\\n" >&2; exit 1'
    patch.setenv("CXX", script(tmp_path / "latin", said))


def makes_rubbish(patch, tmp_path):
    text = b'for last; do :; done; echo rubbish > "$last"'
    patch.setenv("CXX", script(tmp_path / "rubbish", text))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (no_home, "there is no home folder to keep files in: set TRAINOPT_CACHE"),
        (below_a_file, "file'"),
        (shared, "cache can be written to by other users"),
        (full, "No space left on device"),
        (nothing_in_path, "no C++ compiler was found: install g++ or clang++, or name one in CXX"),
        (cxx("g++'"), "CXX is g++', which can't be read (No closing quotation)"),
        (cxx("/no/such/compiler -m64"), "but there is no program /no/such/compiler"),
        (cxx("false"), "false failed (exit code 1)"),
        (cxx("true"), "made.so"),
        (cxx(f"{sys.executable} -c 'raise SystemExit(\"bad\")'"), "failed (bad)"),
        (speaks_latin_1, "latin failed (erreur: chou�)"),
        (makes_rubbish, "rubbish made can't be loaded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whatever_fails_the_step_goes_on_and_asking_for_kernels_says_why(
    folder, tmp_path, monkeypatch, trouble, said
):
    trouble(monkeypatch, tmp_path)
    assert a_step() == a_step(foreach=False)
    with pytest.raises(RuntimeError, match="fused=True has no kernel here, ") as raised:
        a_step(fused=True)
    assert said in str(raised.value)
    assert not (folder.exists() and list(folder.iterdir()))


def test_a_file_that_is_there_needs_no_compiler(copied, monkeypatch, tmp_path):
    before = copied.stat().st_mtime_ns
    for trouble in (full, nothing_in_path, cxx("g++'"), speaks_latin_1, makes_rubbish):
        with monkeypatch.context() as patch:
            trouble(patch, tmp_path)
            assert isinstance(found(), ctypes.CDLL), trouble
    assert copied.stat().st_mtime_ns == before


def test_a_fresh_process_finds_the_compiled_file(folder, stub):
    assert isinstance(found(), ctypes.CDLL)
    (made,) = folder.iterdir()
    stamp = made.stat().st_mtime_ns
    code = (
        "import torch; from trainopt.kernels.cpu import missing; "
        "print(repr(missing(torch.float32, torch.float32)))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "''"
    assert len(stub.calls()) == 1
    assert made.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("left", [0.0, 0.3, 0.99])
def test_a_file_cut_short_is_made_again(folder, stub, left):
    found()
    (made,) = folder.iterdir()
    content = made.read_bytes()
    made.unlink()  # this process has the old one mapped
    made.write_bytes(content[: int(left * len(content))])
    assert isinstance(found(), ctypes.CDLL)
    assert len(stub.calls()) == 2
    assert [path.read_bytes() for path in folder.iterdir()] == [content]


def test_a_file_without_our_functions_is_made_again(folder, stub, tmp_path):
    found()
    (made,) = folder.iterdir()
    content = made.read_bytes()
    made.unlink()
    stem = made.stem.rpartition("-")[0]
    subprocess.run(
        [shutil.which("c++"), "-shared", "-x", "c++", "-", "-o", tmp_path / "other.so"],
        input=b"int other;",
        check=True,
    )
    foreign = bytearray(content)
    foreign[18:20] = b"\xff\xff"  # the processor's number in an ELF header
    for strange in ((tmp_path / "other.so").read_bytes(), bytes(foreign), b"rubbish"):
        keep(strange, stem, ".so")
        assert isinstance(found(), ctypes.CDLL)
        made.unlink()
    assert len(stub.calls()) == 4


def test_another_compiler_source_or_flag_is_another_file(folder, stub, monkeypatch, tmp_path):
    found()
    monkeypatch.setenv("CXX", f"'{stub.path}' -DX='a b'")
    found()
    monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-fsanitize=address"])
    found()
    found()
    assert len(list(folder.iterdir())) == 3
    first, second, third = stub.calls()
    assert first.startswith("-std=c++17")
    assert second.startswith("-DX=a b -std=c++17")
    assert "-fsanitize=address" in third


def test_CXX_is_a_path_or_a_command_and_knows_home(folder, stub, monkeypatch):
    monkeypatch.setenv("HOME", str(stub.path.parent))
    monkeypatch.setenv("PATH", f"{stub.path.parent}:{os.environ['PATH']}")
    for chosen in ("g++", " g++ -m64", "~/g++", str(stub.path), shlex.join([str(stub.path), "-g"])):
        monkeypatch.setenv("CXX", chosen)
        shutil.rmtree(folder, ignore_errors=True)
        assert isinstance(found(), ctypes.CDLL)
    assert len(stub.calls()) == 5


def test_several_may_compile_at_once(folder, stub):
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(lambda _: found(), range(8)))
    assert all(isinstance(library, ctypes.CDLL) for library in libraries)
    assert len(list(folder.iterdir())) == 1


def test_a_compiler_that_is_interrupted_leaves_nothing(folder, monkeypatch, tmp_path):
    text = b'echo half > "$TMPDIR/x.s"; kill -INT $PPID; exec sleep 60'
    monkeypatch.setenv("CXX", script(tmp_path / "slow", text))
    with pytest.raises(KeyboardInterrupt):
        found()
    assert list(folder.iterdir()) == []
