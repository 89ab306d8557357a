"""step.cpp, compiled for one pair of dtypes, kept in the user's cache, and loaded."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

from ..cache import keep, kept, unfinished

SYMBOLS = {
    "to_check": ctypes.c_int32,
    "to_gradient": ctypes.c_double,
    "to_diagonal": ctypes.c_double,
    "to_rank_one": ctypes.c_double,
    "to_full": ctypes.c_double,
}
FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-shared",
    "-fPIC",
]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_SOURCES = [Path(__file__).with_name(name) for name in ("step.cpp", "tensors.h")]


@functools.cache
def library(param: torch.dtype, state: torch.dtype) -> ctypes.CDLL | str:
    """The compiled kernels for weights of dtype `param` and variables of dtype `state`.

    Compiles on the first call on a machine (about a second), and finds the file in the cache ever
    after. Where nothing can be compiled, a file that another compiler left in the cache is taken.

    Returns:
        The library, or why there is none: one clause, for an error message.
    """
    if not {param, state} <= set(DTYPES):
        return f"there are none for {param} with a state in {state}"
    try:
        return _found(_name(param), _name(state))
    except RuntimeError as error:
        return str(error)
    except OSError as error:
        return f"step.cpp can't be compiled or kept ({error})"


def _found(param: str, state: str) -> ctypes.CDLL:
    """The library, out of the cache or compiled.

    Raises:
        OSError: something can't be read, written or run.
        RuntimeError: there is no compiler, it fails, or what it makes isn't our library.
    """
    code = [source.read_bytes() for source in _SOURCES]
    stem = f"step-{param}-{state}-{_hash(code, FLAGS, _machine())}"
    try:
        compiler = _compiler()
        own = f"{stem}-{_hash(compiler)}"
        macros = [f"-DPARAM={param}", f"-DSTATE={state}"]
        return _loaded(own) or _compiled([*compiler, *FLAGS, *macros, str(_SOURCES[0])], own)
    except (OSError, RuntimeError):
        if anyone := _loaded(f"{stem}-*"):
            return anyone
        raise


def _loaded(stem: str) -> ctypes.CDLL | None:
    """The first library under this name in the cache that can be loaded and has our symbols."""
    for path in kept(stem, ".so"):
        with suppress(OSError, AttributeError):  # made for another system's C library, say
            return _declared(path)
    return None


def _compiled(command: list[str], stem: str) -> ctypes.CDLL:
    """Compile, keep and load."""
    with unfinished() as folder:
        made = folder / "made.so"
        process = subprocess.Popen(
            [*command, "-o", str(made)],
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                stdout, stderr = process.communicate()
            finally:
                process.kill()  # nothing, unless this is interrupted: then it doesn't go on alone
                process.wait()
        if process.returncode != 0:
            said = " ".join((stderr or stdout).decode(errors="replace").split())[-500:]
            raise RuntimeError(f"{command[0]} failed ({said or f'exit code {process.returncode}'})")
        path = keep(made.read_bytes(), stem, ".so")
    try:
        return _declared(path)
    except (OSError, AttributeError) as error:
        path.unlink()
        raise RuntimeError(f"what {command[0]} made can't be loaded ({error})") from None


def _declared(path: Path) -> ctypes.CDLL:
    kernels = ctypes.CDLL(str(path))
    for symbol, returns in SYMBOLS.items():
        getattr(kernels, symbol).restype = returns
    return kernels


def _compiler() -> list[str]:
    """The user's CXX, a path or a command with options, or the first C++ compiler in PATH."""
    chosen = os.path.expanduser(os.environ.get("CXX", "").strip())
    if not chosen:
        for name in ("c++", "g++", "clang++"):
            if found := shutil.which(name):
                return [found]
        raise RuntimeError("no C++ compiler was found: install g++ or clang++, or name one in CXX")
    try:
        name, *options = [chosen] if shutil.which(chosen) else shlex.split(chosen)
    except ValueError as error:
        raise RuntimeError(f"CXX is {chosen}, which can't be read ({error})") from None
    if not (found := shutil.which(name)):
        raise RuntimeError(f"CXX is {chosen}, but there is no program {name}")
    return [found, *options]


def _machine() -> list[str]:
    """What code for this processor depends on: different machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        processor = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        processor = platform.processor()
    return [sys.platform, platform.machine(), processor]


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
