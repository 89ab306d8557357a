"""A user's own file: read for what it holds, whatever its name; or refused in one sentence."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from trainopt import compare
from trainopt.convex.optimum import optimum
from trainopt.convex.problems import MODELS, build
from trainopt.data import load_file
from trainopt.errors import InputError

N = 40


def lines(row, header=None, n=N):
    """A text with one line per row, each from its number."""
    first = [] if header is None else [header]
    return "\n".join([*first, *(row(i) for i in range(n))]) + "\n"


def replaced(text, number, line):
    """The text with another data row (from 1) in place of one."""
    rows = text.split("\n")
    rows[number] = line
    return "\n".join(rows)


def zipped(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def load(path, content, target="y", regression=False):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(path, target, task_is_regression=regression)


def sentence(path, content, target="y", regression=False):
    """The sentence a file is refused with, without the path, which could hold any word."""
    with pytest.raises(InputError) as caught:
        load(path, content, target, regression)
    told = str(caught.value)
    assert "\n" not in told
    assert told.endswith(".")
    assert told.isprintable()
    return told.replace(str(path), "FILE")


def assert_same(found, expected):
    for name in ("x_train", "y_train", "x_val", "y_val"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if sparse.issparse(ours):
            ours, theirs = ours.toarray(), theirs.toarray()
        np.testing.assert_array_equal(ours, theirs)
    assert found.labels == expected.labels


def csv_row(i):
    return f"{i * 0.7:.2f},{i * i % 7},{i % 2}"


CSV = lines(csv_row, "a,b,y")


def test_a_table_holds_its_numbers_row_by_row(tmp_path):
    data = load(tmp_path / "d.csv", CSV)
    x, y = np.vstack([data.x_train, data.x_val]), np.concatenate([data.y_train, data.y_val])
    order = np.argsort(x[:, 0])  # the first column rises from row to row
    i = np.arange(N)
    np.testing.assert_array_equal(y[order], i % 2)
    for column, values in enumerate((i * 0.7, i * i % 7)):
        # Standardised: the same numbers, but for a shift and a scale.
        fit = np.polyval(np.polyfit(values, x[order, column], 1), values)
        np.testing.assert_allclose(x[order, column], fit, atol=1e-12)


SAME_TABLE = {
    "crlf": CSV.replace("\n", "\r\n"),
    "cr": CSV.replace("\n", "\r"),
    "semicolons": CSV.replace(",", ";"),
    "tabs": CSV.replace(",", "\t"),
    "bars": CSV.replace(",", "|"),
    "comma and space": CSV.replace(",", ", "),
    "space and comma": CSV.replace(",", " , "),
    "spaces": CSV.replace(",", " "),
    "aligned by spaces": CSV.replace(",", " \t  ").replace("\n", "\n  "),
    "quoted": CSV.replace(",", '","').replace("\n", '"\n"').removesuffix('"').join('"\n')[:-1],
    "quoted after spaces": lines(
        lambda i: ", ".join(f'"{cell}"' for cell in csv_row(i).split(",")), "a, b, y"
    ),
    "blank lines": "\n\n" + CSV.replace("\n", "\n\n"),
    "separators at the ends": CSV.replace("\n", ",\n"),
    "separators at the ends of rows": CSV.replace("\n", ",\n").replace("y,", "y", 1),
    "row numbers of pandas": lines(lambda i: f"{i},{csv_row(i)}", ",a,b,y"),
    "row numbers of a part": lines(lambda i: f"{3 * i + 5},{csv_row(i)}", ",a,b,y"),
    "row numbers twice": lines(lambda i: f"{i},{i},{csv_row(i)}", ",Unnamed: 0,a,b,y"),
    "row names of R": lines(lambda i: f'"Mazda {i}",{csv_row(i)}', '"","a","b","y"'),
    "comments": "# by me,\n#\n# in 2024, or so, roughly\n" + CSV,
    "header of savetxt": "# made by NumPy\n# " + CSV,
    "sep= of Excel": "sep=;\n" + CSV.replace(",", ";"),
    "byte order mark": CSV.encode("utf-8-sig"),
    "UTF-16": CSV.encode("utf-16"),
    "UTF-32": CSV.encode("utf-32"),
    "gzip": gzip.compress(CSV.encode()),
    "gzip in gzip": gzip.compress(gzip.compress(CSV.encode())),
    "bzip2": bz2.compress(CSV.encode()),
    "xz": lzma.compress(CSV.encode()),
    "zip": zipped(**{"folder/": "", "folder/d.csv": CSV, "__MACOSX/d.csv": "x"}),
}


@pytest.mark.parametrize("kind", SAME_TABLE)
def test_one_table_written_in_many_ways(tmp_path, kind):
    expected = load(tmp_path / "plain.csv", CSV)
    for name in ("d.csv", "d.svm", "d.txt", "d"):
        assert_same(load(tmp_path / name, SAME_TABLE[kind]), expected)


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["yes", "no", " yes", "no "], ("no", "yes")),
        (["y", "n"], ("n", "y")),  # in a column called y
        (["1", "0", "1.0", "00", "1e0"], ("0", "1")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["0.5", "1.5"], ("0.5", "1.5")),
        (["9007199254740992", "9007199254740993"], ("9007199254740992", "9007199254740993")),
        (["True", "False"], ("False", "True")),
        (["TRUE", "FALSE"], ("FALSE", "TRUE")),
        (['"yes, sir"', '"no; sir"'], ("no; sir", "yes, sir")),
        (["it's 5\"", "a b"], ("a b", "it's 5\"")),
        (["größer", "日本"], ("größer", "日本")),
        (["none", "-"], ("-", "none")),
    ],
)
def test_labels_are_what_is_written(tmp_path, written, labels):
    text = lines(lambda i: f"{i * 0.7},{written[i % len(written)]}", "x,y")
    data = load(tmp_path / "d.csv", text)
    assert data.labels == labels
    x, y = np.vstack([data.x_train, data.x_val]), np.concatenate([data.y_train, data.y_val])
    plain = [cell.strip().strip('"') if cell[0] == '"' else cell.strip() for cell in written]
    for i, code in enumerate(y[np.argsort(x[:, 0])]):
        found, expected = labels[code], plain[i % len(written)]
        assert found == expected or float(found) == float(expected)


def test_columns_of_true_and_false_are_1_and_0(tmp_path):
    text = lines(lambda i: f"{i % 3},{['true', 'FALSE'][i % 2]},{i % 5}", "a,b,y")
    as_numbers = text.replace("true", "1").replace("FALSE", "0")
    expected = load(tmp_path / "d.csv", as_numbers)
    assert_same(load(tmp_path / "d.csv", text), expected)


@pytest.mark.parametrize(
    "header", ["2019,2020,2021", "0,1,2", "id,2020,y", "valid,paid,y2", 'a," b\n c ","my\n y"']
)
def test_headers_with_numbers(tmp_path, header):
    target = header.rpartition(",")[2].strip('"')
    expected = load(tmp_path / "d.csv", CSV)
    assert_same(load(tmp_path / "d.csv", CSV.replace("a,b,y", header), target), expected)


def of(value, i=16):
    """The table with this cell in column a of a data row (from 1)."""
    return replaced(CSV, i, f"{value},3,{i % 2}")


REFUSED = [
    # text, target, regression, what the sentence says
    ("", "y", False, "is empty"),
    (" \n\n", "y", False, "is empty"),
    ("a,b,y\n", "y", False, "0 rows of data"),
    (lines(csv_row, "a,b,y", 9), "y", False, "9 rows of data"),
    (CSV, None, False, "--target (a, b, y)"),
    (CSV, "z", False, "no column z"),
    (CSV, "2", False, "take the target from a, b, y"),
    (CSV.replace("a,b", "price,b"), "prise", False, "did you mean price"),
    (lines(csv_row), "1", False, 'no header, since its first line is "0.00, 0, 0"'),
    (lines(csv_row), None, False, "no header"),
    (lines(csv_row), "label", False, "no header"),
    (lines(lambda i: f"{i},{i % 3},{i % 2}"), "0", False, "no header"),
    (lines(lambda i: f"{i * 0.7},{'ab'[i % 2]}"), "a", False, "no header"),
    (lines(lambda i: f"{i % 7},{(i + 1) % 2}"), "1", False, "no header"),
    (lines(lambda i: f"r{i},{i % 3},{i % 2}"), "0", False, "no header"),
    (lines(lambda i: f"{i * 0.7};{i % 2}").replace(".", ","), "0", False, "no header"),
    (CSV.replace("a,b", "a,y"), "y", False, "2 columns named y"),
    (CSV.replace("a,b", "a,a "), "y", False, "2 columns named a"),
    (lines(lambda i: f"{i % 7},{i},{i % 2}", "a,,y"), "y", False, "Column 2 of FILE has no name"),
    (lines(lambda i: f"{i * 0.7},3,{i % 2}", ",b,y"), "y", False, "Column 1 of FILE has no name"),
    (CSV.replace("a,b", "a,"), "y", False, "Column 2 of FILE has no name"),
    (lines(lambda i: f"{i % 20},{csv_row(i)}", ",a,b,y"), "y", False, "Column 1 of FILE has no"),
    (lines(lambda i: f"{i},{i % 3},{i % 2}", "id,b,y"), "y", False, "Column id"),
    (lines(lambda i: f"{i * 3},{i % 3},{i % 2}", "CustomerID,b,y"), "y", False, "CustomerID"),
    (lines(lambda i: f"{99 - i},{i % 3},{i % 2}", "Row_ID,b,y"), "y", False, "Row_ID"),
    (of("n/k"), "y", False, 'Column a of FILE has "n/k" in data row 16'),
    (of("?"), "y", False, '"?" in data row 16, which marks a missing value'),
    (of("NA"), "y", False, '"NA" in data row 16, which marks a missing value'),
    (of("nan"), "y", False, '"nan" in data row 16'),
    (of(""), "y", False, "Column a of FILE is empty in data row 16:"),
    (of("inf"), "y", False, '"inf" in data row 16'),
    (of("-1e400"), "y", False, "in data row 16, which isn't below"),
    (of("1e200"), "y", False, "in data row 16, which isn't below 1e+100"),
    (
        of('"1,234.5"'),
        "y",
        False,
        '"1,234.5" in data row 16, which isn\'t a number: write decimals',
    ),
    (of("2024-01-31"), "y", False, '"2024-01-31" in data row 16'),
    (of("−1"), "y", False, '"−1" in data row 16'),
    (of("1_000"), "y", False, '"1_000" in data row 16'),
    (of("x" * 99), "y", False, f'"{"x" * 39}…" in data row 16'),
    (of('"two\nlines"'), "y", False, '"two lines" in data row 16'),
    (CSV.replace(",", ";").replace(".", ","), "y", False, "write decimals with a point"),
    (CSV.replace(".", ","), "y", False, "cells in data row 1 of FILE is 4, in the header 3"),
    (replaced(CSV, 16, "1,2"), "y", False, "cells in data row 16 of FILE is 2, in the header 3"),
    (replaced(CSV, 16, "1"), "y", False, "cells in data row 16 of FILE is 1"),
    (replaced(replaced(CSV, 3, ",,"), 16, "1,2,3,4"), "y", False, "data row 16 of FILE is 4"),
    (replaced(CSV.replace(",", ", "), 16, "1, 2, 3,4"), "y", False, "data row 16 of FILE is 4"),
    (lines(lambda i: f"{i % 2 > 0 if i != 15 else ''},{i % 3}", "a,y"), "y", False, "data row 16:"),
    (replaced(CSV, 16, "1,2,3,4"), "y", False, "cells in data row 16 of FILE is 4"),
    (replaced(CSV, 16, '1,"2,0'), "y", False, "close each quotation mark"),
    (replaced(CSV, 16, ",,"), "y", False, "Column a of FILE is empty in data row 16"),
    (lines(lambda i: f"red,{i},blue,{i % 2}", "a,b,c,y"), "y", False, "(also columns c)"),
    (lines(lambda i: f"{i},,{i % 2}", "a,b,y"), "y", False, "Column b of FILE is empty: remove"),
    (lines(lambda i: f"{i % 7},5,{i % 2}", "a,b,y"), "y", False, "Column b of FILE has the same"),
    (lines(lambda i: f"{i % 2}", "y"), "y", False, "no feature column"),
    (lines(lambda i: f"{i % 7},{'NE'[i % 2]}{'AU'[i % 2]}", "x,y"), "y", False, '"NA" in data row'),
    (replaced(CSV, 16, "1,2,?"), "y", False, 'Column y of FILE has "?" in data row 16'),
    (replaced(CSV, 16, "1,2,"), "y", False, "Column y of FILE is empty in data row 16"),
    (replaced(CSV, 16, "1,2,?"), "y", True, 'Column y of FILE has "?" in data row 16'),
    (replaced(CSV, 16, "1,2,inf"), "y", True, 'Column y of FILE has "inf" in data row 16'),
    (lines(lambda i: f"{i % 7},u{i % 2}", "x,y"), "y", True, "or a classifier"),
    (lines(lambda i: f"{i % 7},1", "x,y"), "y", False, "is 1 in every row"),
    (lines(lambda i: f"{i % 7},1.0", "x,y"), "y", True, "is 1 in every row"),
    (lines(lambda i: f"{i % 7},{i * 0.31}", "x,y"), "y", False, "40 distinct fractional values"),
    (lines(lambda i: f"{i % 7},{i}", "x,y"), "y", False, "only 1 row"),
    (lines(lambda i: f"{i % 7},{i // 2}", "x,y"), "y", False, "20 classes in 40 rows"),
]


@pytest.mark.parametrize(("text", "target", "regression", "words"), REFUSED)
def test_a_table_that_is_refused(tmp_path, text, target, regression, words):
    assert words in sentence(tmp_path / "d.csv", text, target, regression)


def test_long_lines_and_long_cells(tmp_path):
    header = ",".join([*(f"{i}{'x' * 500}" for i in range(300)), "y"])  # more than csv's limit
    data = load(tmp_path / "d.csv", lines(lambda i: f"{i}," * 300 + f"{i % 2}", header))
    assert data.x_train.shape == (32, 301)
    long = replaced(replaced(lines(csv_row, "a,b,y", 300), 9, ",1,0"), 250, "x" * 140_000 + ",1,0")
    assert "empty in data row 9 and 1 more" in sentence(tmp_path / "d.csv", long)


@pytest.mark.parametrize("name", ["id", "height"])
def test_only_whole_numbers_under_the_name_of_an_id_are_refused(tmp_path, name):
    numbers = {"id": lambda i: i % 20, "height": lambda i: i}[name]
    text = lines(lambda i: f"{numbers(i)},{i % 3},{i % 2}", f"{name},b,y")
    assert load(tmp_path / "d.csv", text).x_train.shape == (32, 3)


def binary(write):
    content = io.BytesIO()
    write(content)
    return content.getvalue()


def tar(content):
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(__file__, "d.csv")


TABLE = pd.DataFrame({"a": [1.0, 2.0], "y": [0, 1]})
NO_TEXT = {
    "Parquet": (binary(TABLE.to_parquet), "is a Parquet file: save its table as CSV"),
    "Arrow": (binary(TABLE.to_feather), "is an Arrow file"),
    "NumPy": (binary(lambda file: np.save(file, TABLE)), "is a NumPy array"),
    "NumPy, several": (binary(lambda file: np.savez(file, a=1, b=2)), "a zip archive of 2 files"),
    "pickle": (pickle.dumps(TABLE), "is a Python pickle"),
    "Excel": (zipped(**{"[Content_Types].xml": "", "xl/a.xml": ""}), "is a workbook of Excel"),
    "Excel 97": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, "is an Excel workbook"),
    "JSON": ('[{"a": 1, "y": 0}]', "is JSON"),
    "HTML": ("\n<!DOCTYPE html>\n", "is HTML or XML"),
    "ARFF": ("% iris\n@RELATION iris\n", "is an ARFF file"),
    "Git LFS": ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "tar": (binary(tar), "is a tar archive: unpack it"),
    "zip of two": (zipped(a=CSV, b=CSV), "is a zip archive of 2 files"),
    "broken zip": (zipped(a=CSV)[:-30], "can't be unpacked"),
    "broken gzip": (gzip.compress(CSV.encode())[:-20], "packed by gzip and damaged"),
    "no gzip at all": (b"\x1f\x8b" + b"x" * 50, "packed by gzip and damaged"),
    "broken bzip2": (bz2.compress(CSV.encode())[:-20], "packed by bzip2 and damaged"),
    "broken xz": (lzma.compress(CSV.encode())[:-20], "packed by xz and damaged"),
    "Latin-1": ("größe,y\n1,2\n".encode("latin-1"), "(line 1 has the byte 0xf6): save it as UTF-8"),
    "UTF-16 without mark": (CSV.encode("utf-16-le"), "save it as UTF-8"),
    "zeros": (b"\0" * 1000, "is binary"),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_a_file_that_is_no_text(tmp_path, kind):
    content, words = NO_TEXT[kind]
    assert words in sentence(tmp_path / "d.csv", content)


def test_paths_that_are_no_file(tmp_path, monkeypatch):
    for path, words in (
        (tmp_path / "none.csv", "There is no file"),
        (tmp_path, "is a folder"),
        (Path("/dev/null"), "neither a file nor a pipe"),
        (tmp_path / ("x" * 300), "can't be read"),
    ):
        with pytest.raises(InputError, match=words):
            load_file(path, "y", task_is_regression=False)
    assert "isn't UTF-8" in sentence(tmp_path / os.fsdecode(b"\xff.csv"), CSV)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    assert "can't be read (Permission denied)" in sentence(tmp_path / "d.csv", CSV)


def test_a_pipe_is_read_to_its_end(tmp_path):
    text = lines(lambda i: f"{i % 3} 1:{i % 7} 2:{i % 5} 3:{i % 2}", n=9000)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    writer.start()
    try:
        data = load_file(tmp_path / "pipe", None, task_is_regression=False)
    finally:
        writer.join(60)
    assert_same(data, load(tmp_path / "d.svm", text, None))
    assert len(data.y_train) + len(data.y_val) == 9000


def svm_row(i):
    return f"{i % 2} 1:{i * 0.3:.2f} 2:{i % 7} 9:{i % 3}"


SVM = lines(svm_row)
SAME_ROWS = {
    "query ids": lines(lambda i: svm_row(i).replace(" ", f" qid:{i // 4} ", 1)),
    "comments": "# a9a\n\n" + SVM.replace("\n", " # 3:4\n"),
    "tabs and crlf": SVM.replace(" ", "\t").replace("\n", " \r\n"),
    "counted from 0": SVM.replace(" 1:", " 0:").replace(" 2:", " 1:").replace(" 9:", " 8:"),
    "large indices": SVM.replace(" 9:", " 2000000000:"),
    "signs": SVM.replace("\n1 ", "\n+1 "),
    "fractions": SVM.replace("\n1 ", "\n1.0 "),
    "zeros": SVM.replace(" 9:", " 5:0 9:"),
    "byte order mark": SVM.encode("utf-8-sig"),
    "gzip": gzip.compress(SVM.encode()),
}


@pytest.mark.parametrize("kind", SAME_ROWS)
def test_one_libsvm_file_written_in_many_ways(tmp_path, kind):
    expected = load(tmp_path / "plain.svm", SVM, None)
    for name in ("d.svm", "a9a", "d.csv"):
        data = load(tmp_path / name, SAME_ROWS[kind], None)
        assert_same(data, expected)
        assert data.x_train.indices.dtype == np.int32  # what liblinear reads


def test_a_libsvm_row_without_features_is_a_row_of_zeros(tmp_path):
    data = load(tmp_path / "d", "1\n0\n" + SVM, None)
    rows = sparse.vstack([data.x_train, data.x_val]).toarray()
    # The two, and row 0, in which all features are 0.
    assert (abs(rows[:, :-1]).sum(axis=1) == 0).sum() == 3
    assert len(rows) == N + 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SVM.replace("1 1:", "1,3 1:", 1), 'line 2 has several labels ("1,3")'),
        (SVM.replace("1 1:", "yes 1:", 1), 'line 2 has the label "yes"'),
        (SVM.replace("1 1:", "nan 1:", 1), "Row 2 of FILE has the label nan"),
        (SVM.replace(" 2:1 ", " 2:x ", 1), 'line 2 has "2:x"'),
        (SVM.replace(" 2:1 ", " 2: ", 1), 'line 2 has "2:"'),
        (SVM.replace(" 2:1 ", " 2 ", 1), 'line 2 has "2"'),
        (SVM.replace(" 2:1 ", " -2:1 ", 1), 'line 2 has "-2:1"'),
        (SVM.replace(" 2:1 ", " 2:1 2:1 ", 1), "line 2 has index 2 after 2"),
        (SVM.replace(" 2:1 ", " 10:1 ", 1), "line 2 has index 9 after 10"),
        (SVM.replace(" 9:1", " 9000000000:1", 1), "line 2 has index 9000000000"),
        (SVM.replace(" 9:1", " 9:inf", 1), "Row 2 of FILE has inf at index 9"),
        (SVM.replace(" 9:1", " 9:1e200", 1), "Row 2 of FILE has 1e+200 at index 9"),
        (lines(lambda i: f"{i % 2} 1:{i} 4:2"), "Column 4 of FILE has the same value"),
        (lines(lambda i: f"1 1:{i}"), "is 1 in every row"),
        (lines(lambda i: f"{i * 0.31} 1:{i}"), "40 distinct fractional values"),
        (lines(lambda i: f"{i % 2} 1:0"), "no feature column"),
        (lines(svm_row, n=9), "9 rows of data"),
    ],
)
def test_a_libsvm_file_that_is_refused(tmp_path, text, words):
    assert words in sentence(tmp_path / "d.svm", text, None)


def test_a_libsvm_file_has_its_target_in_it(tmp_path):
    assert "leave out target y" in sentence(tmp_path / "d.svm", SVM, "y")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_solved_on_both_kinds_of_file(tmp_path, model):
    (tmp_path / "d.svm").write_text(SVM)
    (tmp_path / "d.csv").write_text(CSV)
    assert optimum(build(model, tmp_path / "d.svm")).solved
    number = MODELS[model].accuracy is None
    assert optimum(build(model, tmp_path / "d.csv", "b" if number else "y")).solved


def test_nothing_is_written_when_a_file_is_refused(tmp_path):
    (tmp_path / "d.csv").write_text(of("n/k"))
    with pytest.raises(InputError, match="n/k"):
        compare("svm", data=tmp_path / "d.csv", target="y", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
