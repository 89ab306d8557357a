"""The objectives against NumPy, and their optima against another solver than the one used."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import minimize

from trainopt.convex.optimum import optimum
from trainopt.convex.problems import MODELS, PROBLEMS, Problem, build
from trainopt.data import Dataset
from trainopt.errors import InputError


def toy(model, classes=3, seed=0, as_sparse=False):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(60, 5)) * (generator.random((60, 5)) < 0.6)
    x[:, -1] = 1
    y = x[:, 0] + generator.normal(size=60) if model in ("ridge", "huber") else None
    classes = {"ridge": None, "huber": None, "logistic": 2}.get(model, classes)
    if y is None:
        y = generator.integers(0, classes, 60)
    x = sparse.csr_array(x) if as_sparse else x
    labels = tuple(map(str, range(classes or 0)))
    data = Dataset("toy", x, y, x, y, classes, labels, "drawn")
    return Problem(f"toy-{model}", data, MODELS[model], l2=0.1, batch_size=16)


def by_hand(problem, w):
    """F in NumPy."""
    x, y = problem.dataset.x_train, problem.dataset.y_train
    scores = x @ w
    if problem.model.name == "ridge":
        loss = 0.5 * (scores[:, 0] - y) ** 2
    elif problem.model.name == "huber":
        residual = np.abs(scores[:, 0] - y)
        loss = np.where(residual < 1, 0.5 * residual**2, residual - 0.5)
    elif problem.model.name == "logistic":
        loss = np.log1p(np.exp(-(2 * y - 1) * scores[:, 0]))
    elif problem.model.name == "softmax":
        loss = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    else:
        signs = np.where(np.arange(max(scores.shape[1], 2)) == y[:, None], 1, -1)
        signs = signs[:, 1:] if scores.shape[1] == 1 else signs
        loss = (np.maximum(0, 1 - signs * scores) ** 2).sum(axis=1)
    return loss.mean() + 0.05 * (w**2).sum()


CASES = [("logistic", 2), ("softmax", 2), ("softmax", 3), ("ridge", 0), ("svm", 2), ("svm", 3)]


@pytest.mark.parametrize(("model", "classes"), CASES)
def test_objective_is_the_one_written_by_hand(model, classes):
    problem = toy(model, classes)
    w = np.random.default_rng(1).normal(size=problem.shape)
    assert problem.objective(torch.from_numpy(w)) == pytest.approx(by_hand(problem, w), rel=1e-12)


@pytest.mark.parametrize(("model", "classes"), CASES)
def test_optimum_is_where_another_solver_ends(model, classes):
    problem = toy(model, classes)
    found = optimum(problem)
    other = minimize(
        lambda w: by_hand(problem, w.reshape(problem.shape)),
        np.zeros(problem.dim),
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    )
    assert found.value == pytest.approx(other.fun, abs=1e-9)
    assert found.gradient_norm < 1e-5


@pytest.mark.parametrize(("model", "classes"), CASES)
def test_sparse_rows_give_the_same_loss_and_gradient(model, classes):
    dense, thin = (toy(model, classes, as_sparse=flag) for flag in (False, True))
    w = torch.from_numpy(np.random.default_rng(1).normal(size=dense.shape)).requires_grad_()
    rows = torch.tensor([3, 1, 41])
    gradients = [torch.autograd.grad(p.loss(w, rows), w)[0] for p in (dense, thin)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(dense.full_gradient(w), thin.full_gradient(w))
    assert optimum(dense).value == pytest.approx(optimum(thin).value, abs=1e-10)


def test_batches_partition_the_rows_and_average_to_the_full_gradient():
    problem = toy("softmax")
    w = torch.ones(problem.shape)
    batches = problem.batches(torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(problem.n))
    parts = [
        len(b) * problem.full_gradient(w).mul(0).add(_gradient(problem, w, b)) for b in batches
    ]
    torch.testing.assert_close(sum(parts) / problem.n, problem.full_gradient(w))


def _gradient(problem, w, rows):
    point = w.double().requires_grad_()
    return torch.autograd.grad(problem.loss(point, rows), point)[0]


def test_every_problem_is_solved():
    for name in PROBLEMS:
        problem = build(name)
        found = optimum(problem)
        assert found.solved
        assert found.value < problem.objective(problem.initial())
        loss, accuracy = problem.validate(torch.from_numpy(found.weights))
        assert loss < 1.2
        assert not accuracy < 0.85


def test_an_unsolved_optimum_is_refused(monkeypatch):
    problem = toy("ridge")
    lazy = type(problem.model)(
        **{**vars(problem.model), "solve": lambda x, y, o, l2: np.zeros((5, 1))}
    )
    monkeypatch.setattr(problem, "model", lazy)
    with pytest.raises(RuntimeError, match="unsolved"):
        optimum(problem)


def test_fingerprint_knows_data_model_and_settings():
    prints = {
        toy("softmax").fingerprint(),
        toy("svm").fingerprint(),
        toy("softmax", seed=1).fingerprint(),
        Problem("x", toy("softmax").dataset, MODELS["softmax"], 0.2, 16).fingerprint(),
    }
    assert len(prints) == 4
    assert toy("softmax").fingerprint() == toy("softmax").fingerprint()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "digit-softmax"}, "did you mean digits-softmax"),
        ({"name": "logistic"}, "give it a file with --data"),
        ({"name": "digits-softmax", "data": "x.csv"}, "brings its own data"),
        ({"name": "digits-softmax", "l2": 0.0}, "l2 is 0"),
        ({"name": "digits-softmax", "l2": float("nan")}, "l2 is nan"),
        ({"name": "digits-softmax", "batch_size": 0}, "batch size is 0"),
    ],
)
def test_bad_requests(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        build(**arguments)


def test_a_model_that_does_not_fit_the_target(tmp_path):
    path = tmp_path / "three.csv"
    path.write_text("a,b,y\n" + "\n".join(f"{i},{i * i % 7},{i % 3}" for i in range(30)))
    with pytest.raises(InputError, match="use softmax"):
        build("logistic", path, "y")


@pytest.mark.parametrize("name", MODELS)
def test_the_slope_is_the_derivative_of_the_loss(name):
    problem = toy(name)
    scores = torch.randn(60, problem.shape[1], dtype=torch.float64, requires_grad=True)
    y = torch.from_numpy(problem.dataset.y_train)
    (expected,) = torch.autograd.grad(problem.model.loss(scores, y), scores)
    slope = problem.model.slope(scores.detach(), y) / 60
    torch.testing.assert_close(slope, expected)
    stacked = torch.stack([scores.detach(), 2 * scores.detach()])
    torch.testing.assert_close(problem.model.slope(stacked, y)[0] / 60, expected)
