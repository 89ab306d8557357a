"""Compare optimizers on real problems; needs `pip install 'trainopt[bench]'`."""

from typing import TYPE_CHECKING, Any

from trainopt.bench.errors import InputError

if TYPE_CHECKING:
    from trainopt.bench.comparison import compare

__all__ = ["InputError", "compare"]


def __getattr__(name: str) -> Any:
    """Import what `compare` needs when it is used: the command line asks this package for names."""
    if name != "compare":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from trainopt.bench.comparison import compare
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"trainopt.bench needs {error.name}, which is missing: pip install 'trainopt[bench]'.",
            name=error.name,
        ) from error
    return compare
