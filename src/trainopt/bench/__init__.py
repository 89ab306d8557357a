"""Compare optimizers on real problems; needs `pip install 'trainopt[bench]'`."""

try:
    from trainopt.bench.comparison import compare
    from trainopt.bench.errors import InputError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"trainopt.bench needs {error.name}, which is missing: pip install 'trainopt[bench]'.",
        name=error.name,
    ) from error

__all__ = ["InputError", "compare"]
