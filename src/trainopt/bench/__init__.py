"""Old names of `trainopt.data`, `trainopt.errors` and `trainopt.convex`, which go on working."""

import sys
import warnings
from importlib import import_module
from typing import Any

_NEW = {
    "data": "data",
    "errors": "errors",
    "problems": "convex.problems",
    "reference": "convex.optimum",
}
warnings.warn(
    "trainopt.bench is now trainopt.compare and the packages trainopt.data, trainopt.convex and "
    "trainopt.errors: import these.",
    DeprecationWarning,
    stacklevel=2,
)
for _old, _new in _NEW.items():
    sys.modules[f"{__name__}.{_old}"] = import_module(f"trainopt.{_new}")


def __getattr__(name: str) -> Any:
    """What stood here, from where it is now."""
    import trainopt

    if name in ("compare", "InputError"):
        return getattr(trainopt, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
