"""How many bytes a device can still give."""

from __future__ import annotations

import math
from pathlib import Path

import torch

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that `device` can still allocate, or None where it can't be known.

    On a CPU: what Linux calls MemAvailable, and no more than the control group leaves. On CUDA:
    the free memory plus what torch's caching allocator holds unused.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    limits = [limit for limit in (_meminfo(), _control_group()) if limit is not None]
    return min(limits, default=None)


def human_bytes(count: float) -> str:
    """Return `count` bytes in decimal units, as in "400.8 MB"."""
    if count < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log10(count) // 3), len(_UNITS))
    return f"{count / 1000**power:.1f} {_UNITS[power - 1]}"


def _meminfo(path: Path = Path("/proc/meminfo")) -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _control_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    try:
        limit = int((folder / "memory.max").read_text())
        return max(0, limit - int((folder / "memory.current").read_text()))
    except (OSError, ValueError):
        return None
