"""The problems optimizers are compared on, by name, and how to build one."""

from __future__ import annotations

from pathlib import Path

from trainopt.convex.models.huber import HUBER
from trainopt.convex.models.logistic import LOGISTIC
from trainopt.convex.models.model import Model
from trainopt.convex.models.ridge import RIDGE
from trainopt.convex.models.softmax import SOFTMAX
from trainopt.convex.models.svm import SVM
from trainopt.convex.problem import Problem
from trainopt.data import DATASETS, Dataset, load_file
from trainopt.errors import InputError, did_you_mean
from trainopt.harness.names import PROBLEMS

__all__ = ["MODELS", "PROBLEMS", "Model", "Problem", "build"]

MODELS: dict[str, Model] = {model.name: model for model in (LOGISTIC, SOFTMAX, RIDGE, SVM, HUBER)}


# 1/(n l2), which solvers take, must stay above 0 in their arithmetic.
_LARGEST_L2 = 1e9


def build(
    name: str,
    data: str | Path | None = None,
    target: str | None = None,
    l2: float = 1e-3,
    batch_size: int | None = None,
) -> Problem:
    """Build a registered problem, or a model on the user's own file.

    Args:
        name: a name in `PROBLEMS`, or, with `data`, one in `MODELS`.
        data: a CSV or LIBSVM file.
        target: the target column of a CSV file.
        l2: strength of the regularisation, positive.
        batch_size: rows in a mini-batch; None takes the problem's own, 32 for a file.

    Raises:
        InputError: a name isn't known, arguments don't go together, or the file can't be used.
    """
    if not 0 < l2 <= _LARGEST_L2:
        raise InputError(
            f"l2 is {l2:g}: give a positive number of at most {_LARGEST_L2:g}, such as 1e-3."
        )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"The batch size is {batch_size}: give at least 1.")
    if name in PROBLEMS:
        if data is not None or target is not None:
            raise InputError(
                f"{name} brings its own data: leave out the file and target, "
                f"or name a model ({', '.join(MODELS)}) instead."
            )
        data_name, model_name, default = PROBLEMS[name]
        dataset = DATASETS[data_name]()
        return _problem(name, dataset, MODELS[model_name], l2, batch_size, default)
    if name not in MODELS:
        raise InputError(_unknown(name))
    if data is None:
        raise InputError(
            f"{name} is a model: give it a file with --data, or choose a problem "
            f"({', '.join(PROBLEMS)})."
        )
    model = MODELS[name]
    dataset = load_file(data, target, task_is_regression=model.accuracy is None)
    if reason := model.fits(dataset):
        raise InputError(reason)
    return _problem(f"{dataset.name}-{name}", dataset, model, l2, batch_size, 32)


def _problem(
    name: str, dataset: Dataset, model: Model, l2: float, batch_size: int | None, default: int
) -> Problem:
    problem = Problem(name, dataset, model, l2, batch_size or default)
    if batch_size is not None and batch_size > problem.n:
        raise InputError(
            f"The batch size is {batch_size}, and {dataset.name} has {problem.n} training rows: "
            "give at most that many."
        )
    return problem


def _unknown(name: str) -> str:
    hint = did_you_mean(name, [*PROBLEMS, *MODELS])
    shown = name or "without a name"
    return (
        f"There is no problem {shown}: {hint}choose one of {', '.join(PROBLEMS)}, "
        f"or a model ({', '.join(MODELS)}) with a file."
    )
