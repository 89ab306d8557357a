"""Reading data: what comes in is what the file says, and bad files get one sentence."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import dump_svmlight_file, load_digits

from trainopt.data import DATASETS, load_file


def rows(n=40, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(3.0, 2.0, (n, 3)), generator.integers(0, 2, n)


def write_csv(path, x, y, header="a,b,c,label"):
    lines = [header, *(",".join(map(str, [*r, t])) for r, t in zip(x, y, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


INSTALLED = ("iris", "wine", "diabetes", "breast-cancer", "digits", "mnist")


@pytest.mark.parametrize("name", INSTALLED)
def test_shipped_sets_are_split_scaled_and_finite(name):
    data = DATASETS[name]()
    total = len(data.y_train) + len(data.y_val)
    assert len(data.y_val) == total // 5
    assert np.isfinite(data.x_train).all()
    assert (data.x_train[:, -1] == 1).all()  # the bias
    assert np.ptp(data.x_train[:, :-1], axis=0).min() > 0
    if data.classes:
        shares = [np.bincount(y) / len(y) for y in (data.y_train, data.y_val)]
        np.testing.assert_allclose(*shares, atol=0.02)  # stratified
    else:
        np.testing.assert_allclose([data.y_train.mean(), data.y_train.std()], [0, 1], atol=1e-12)


def test_digits_holds_the_images_of_scikit_learn():
    data = DATASETS["digits"]()
    images = {row.tobytes() for row in load_digits().data / 16.0}
    kept = np.ptp(load_digits().data, axis=0) > 0
    assert data.x_train.shape[1] - 1 <= kept.sum()
    assert len(images) == len({r.tobytes() for r in np.vstack([data.x_train, data.x_val])})


def test_csv_is_standardised_by_its_training_part(tmp_path):
    x, y = rows()
    data = load_file(write_csv(tmp_path / "mine.csv", x, y), "label", task_is_regression=False)
    assert data.name == "mine"
    assert data.labels == ("0", "1")
    np.testing.assert_allclose(data.x_train[:, :-1].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(data.x_train[:, :-1].std(axis=0), 1, atol=1e-12)


def test_csv_with_words_as_classes(tmp_path):
    x, y = rows()
    words = np.array(["yes", "no"])[y]
    data = load_file(write_csv(tmp_path / "m.csv", x, words), "label", task_is_regression=False)
    assert data.labels == ("no", "yes")


def test_svmlight_stays_sparse(tmp_path):
    x, y = rows()
    x = np.where(x > 3, x, 0.0)
    dump_svmlight_file(x, y, str(tmp_path / "mine.svm"), zero_based=False)
    data = load_file(tmp_path / "mine.svm", None, task_is_regression=False)
    assert sparse.issparse(data.x_train)
    assert data.x_train.shape == (32, 4)
    assert abs(data.x_train[:, :-1]).max() == 1
    # The same file under a name that says nothing is known by its first line.
    (tmp_path / "mine.data").write_text((tmp_path / "mine.svm").read_text())
    again = load_file(tmp_path / "mine.data", None, task_is_regression=False)
    assert (again.x_train != data.x_train).nnz == 0
