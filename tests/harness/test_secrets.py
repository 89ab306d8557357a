"""A password in a storage URL is in no file, page or message."""

import json
import sys

import optuna
import pytest
from typer.testing import CliRunner

from trainopt.commands import app
from trainopt.convex.comparison_report import write_report
from trainopt.errors import InputError
from trainopt.harness import storage
from trainopt.harness.folder import Folder, read_manifest
from trainopt.harness.provenance import commands, provenance
from trainopt.harness.secrets import shown
from trainopt.stopping import Stopped

SECRET = "S3CRETPW"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///runs/x.db", "sqlite:///runs/x.db"),
        ("sqlite:////tmp/x.db?timeout=10", "sqlite:////tmp/x.db?timeout=10"),
        ("postgresql://study@host/db", "postgresql://study@host/db"),
        (
            "postgresql+psycopg://u:S3CRETPW@host:5432/db",
            "postgresql+psycopg://u:***@host:5432/db",
        ),
        ("mysql://:S3CRETPW@host", "mysql://:***@host"),
        ("postgresql://u:a%40S3CRETPW%2F@host/db", "postgresql://u:***@host/db"),
        (
            "postgresql://u@host/db?password=S3CRETPW&sslmode=require",
            "postgresql://u@host/db?password=***&sslmode=require",
        ),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3DS3CRETPW", None),
        # Not what the user meant, or no URL at all: the password may be anywhere.
        ("postgresql://u:a@S3CRETPW@host/db", "postgresql://***"),
        ("postgresql://u:a@b/S3CRETPW@host/db", "postgresql://***"),
        ("postgresql://u/x:S3CRETPW@host/db", "postgresql://***"),
        ("postgresql://u:p@host:S3CRETPW/db", "postgresql://***"),
        ("host=localhost password=S3CRETPW", "***"),
        ("u:S3CRETPW@host/db", "***"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url, expected):
    assert SECRET not in shown(url)
    if expected is not None:
        assert shown(url) == expected
        assert shown(expected) == expected


@pytest.mark.parametrize(
    "text", ["{url} is wrong", "no such user: u, {decoded}", "KeyError({decoded!r})", "at {raw}"]
)
@pytest.mark.parametrize(
    "url",
    [
        "nosuch://u:a%40%27S3CRETPW@host/db",
        "nosuch://u@host/db?password=a%40%27S3CRETPW",
        "nosuch://u:p@host:a@'S3CRETPW/db",
    ],
)
def test_what_a_driver_says_about_a_url_is_not_repeated_with_its_password(monkeypatch, text, url):
    said = text.format(url=url, decoded="a@'S3CRETPW", raw="a%40%27S3CRETPW")

    def raising(url):
        raise RuntimeError(said)

    monkeypatch.setattr(optuna.storages, "get_storage", raising)
    with pytest.raises(InputError) as raised:
        storage.open_storage(url)
    error = raised.value
    assert "can't be opened" in str(error)
    assert SECRET not in str(error)
    assert error.__suppress_context__  # a traceback would show what the driver said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["compare", "x", "--storage", "pg://u:S3CRETPW@h/d"], "'pg://u:***@h/d'"),
        (["compare", "x", "--storage=pg://u:S3CRETPW@h/d"], "'--storage=pg://u:***@h/d'"),
        (["compare", "x", "--storage", "S3CRETPW"], "'***'"),
        (["my.py", "db=pg://u:S3CRETPW@h/d"], "'db=pg://u:***@h/d'"),
        (["compare", "x", "--data", "price list.csv"], "'price list.csv'"),
    ],
)
def test_the_recorded_command_has_no_password(monkeypatch, words, expected):
    monkeypatch.setattr(sys, "argv", ["trainopt", *words])
    command = provenance()["command"]
    assert command.endswith(expected)
    assert SECRET not in command


@pytest.mark.filterwarnings("ignore:Query string argument")
def test_no_file_of_a_comparison_and_nothing_printed_has_it(tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ["compare", "wine-softmax", "--optimizers", "sgd", "--epochs", "1", "--seeds", "1"]
    words += ["--tune", "1", "--out", str(out)]
    words += ["--storage", f"sqlite:///{tmp_path}/trials.db?password={SECRET}"]
    monkeypatch.setattr(sys, "argv", ["trainopt", *words])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    # A folder that an older version recorded with the password.
    manifest = json.loads((out / "run.json").read_text())
    (made,) = manifest.pop("made_by")
    manifest |= {**made, "command": f"trainopt compare x --storage pg://u:{SECRET}@h/d"}
    (out / "run.json").write_text(json.dumps(manifest))
    assert commands(read_manifest(out)) == "trainopt compare x --storage 'pg://u:***@h/d'"
    write_report(Folder.load(out))
    assert SECRET not in (out / "report.html").read_text()


def test_a_database_that_does_not_answer_and_ctrl_c(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    url = f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/db"
    words = ["compare", "wine-softmax", "--out", str(tmp_path / "out"), "--storage", url]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "The storage postgresql+psycopg://u:***@127.0.0.1:1/db can't be opened" in done.output
    assert SECRET not in done.output
    assert not (tmp_path / "out").exists()

    def stopped(*arguments, **options):
        raise Stopped(130)

    monkeypatch.setattr("trainopt.harness.run.run", stopped)
    done = CliRunner().invoke(app, ["study", "convex", "--storage", url])
    assert done.exit_code == 130
    assert "kept in postgresql+psycopg://u:***@127.0.0.1:1/db;" in done.output
