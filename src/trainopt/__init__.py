"""Trainable Optimizers for PyTorch: they learn a linear model of the full gradient as they train.

Ĝ = A·w + b, with A and b trained by gradient descent on ½‖g − A·w − b‖² beside the weights
(Wang and Klabjan, "A Trainable Optimizer", arXiv 2508.01764).
"""

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .advice.advise import advise
    from .conditions import Condition, iterates_bounded, residual_factors, variables_bounded
    from .convex.comparison import compare
    from .errors import InputError
    from .estimated import Estimated
    from .forms import Blocks, Dense, Diagonal, Form, Kronecker, Left, LowRank, RankOne, Zero
    from .learning import Centred, Gradient, Normalised, Weights
    from .optim import TO, DiagonalTO, Estimator, FullTO, Guard, InstabilityError, RankOneTO
    from .schedules import Constant, Cosine, Exponential, InverseTime, Schedule
    from .secant import ChunkSampler, SecantTO

__version__ = "0.1.0"

__all__ = [
    "TO",
    "Blocks",
    "Centred",
    "ChunkSampler",
    "Condition",
    "Constant",
    "Cosine",
    "Dense",
    "Diagonal",
    "DiagonalTO",
    "Estimated",
    "Estimator",
    "Exponential",
    "Form",
    "FullTO",
    "Gradient",
    "Guard",
    "InputError",
    "InstabilityError",
    "InverseTime",
    "Kronecker",
    "Left",
    "LowRank",
    "Normalised",
    "RankOne",
    "RankOneTO",
    "Schedule",
    "SecantTO",
    "Weights",
    "Zero",
    "advise",
    "compare",
    "iterates_bounded",
    "residual_factors",
    "variables_bounded",
]

_MODULES = ("optim", "forms", "learning", "schedules", "conditions", "estimated", "secant")
# Imported at the first use only; some need more than torch: pip install 'trainopt[bench]'.
_TOOLS = {"InputError": "errors", "advise": "advice.advise", "compare": "comparison"}


def __getattr__(name: str) -> Any:
    """Import the library with the first name of it that is used.

    torch takes seconds, which `trainopt --help` need not wait for.
    """
    if name in _TOOLS:
        return _tool(name)
    if name in __all__:
        for module in _MODULES:
            found = import_module(f".{module}", __name__)
            globals().update({n: getattr(found, n) for n in __all__ if hasattr(found, n)})
        # The modules that were read live for ever: looked through once, here, they spare the first
        # step of a process the pause.
        gc.collect()
        return globals()[name]
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _tool(name: str) -> Any:
    try:
        return getattr(import_module(f".{_TOOLS[name]}", __name__), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"trainopt.{name} needs {error.name}, which is missing: pip install 'trainopt[bench]'.",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
