"""step.cpp, compiled for one pair of dtypes, kept in the user's cache, and loaded."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from ..cache import cache

_SOURCE = Path(__file__).with_name("step.cpp")
_FLAGS = [
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


@functools.cache
def library(param: torch.dtype, state: torch.dtype) -> ctypes.CDLL | str:
    """The compiled kernels for weights of dtype `param` and variables of dtype `state`.

    Compiles on the first call on a machine (about a second), and finds the file in the cache ever
    after.

    Returns:
        The library, or why there is none: one clause, for an error message.
    """
    if not {param, state} <= set(DTYPES):
        return f"there are none for {param} with a state in {state}"
    compiler = _compiler()
    if not compiler:
        return "no C++ compiler was found: install g++ or clang++, or name one in CXX"
    macros = [f"-DPARAM={_name(param)}", f"-DSTATE={_name(state)}"]
    described = repr([compiler, _FLAGS, macros, _processor()]).encode()
    key = hashlib.sha256(_SOURCE.read_bytes() + described).hexdigest()[:16]
    path = cache() / f"step-{_name(param)}-{_name(state)}-{key}.so"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _compile([*compiler, *_FLAGS, *macros, str(_SOURCE)], path)
        return _declared(ctypes.CDLL(str(path)))
    except subprocess.CalledProcessError as error:
        return f"{compiler[0]} failed ({error.stderr.strip()[-500:]})"
    except OSError as error:
        return f"{path} can't be made or loaded ({error})"


def _compile(command: list[str], path: Path) -> None:
    """Compile beside `path` and move it there whole: several processes may do so at once."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        beside = Path(folder) / path.name
        subprocess.run([*command, "-o", str(beside)], capture_output=True, text=True, check=True)
        os.replace(beside, path)


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    for function in (kernels.to_diagonal, kernels.to_rank_one, kernels.to_full):
        function.restype = ctypes.c_double
    kernels.to_check.restype = ctypes.c_int32
    return kernels


def _compiler() -> list[str]:
    """The user's CXX, or the first C++ compiler in PATH; empty when there is none."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    found = filter(None, map(shutil.which, ("c++", "g++", "clang++")))
    return list(itertools.islice(found, 1))


def _processor() -> str:
    """What code for this processor depends on: a cache may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
