"""Where files are kept between runs: compiled kernels, fetched data."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """The folder $TRAINOPT_CACHE, else trainopt in the user's cache; it may not exist yet."""
    if chosen := os.environ.get("TRAINOPT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainopt"
