"""Draw every report of results/ again in a copy, and compare each table with the committed one.

    python tests/results/regenerate.py [NAME ...]

Prints a line per table: "equal" where the report wrote the same bytes, "kept" where a report only
reads it, "DIFFERS" otherwise; exits with 1 for any difference.
"""

import contextlib
import io
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from trainopt.reports import report

RESULTS = Path(__file__).parents[2] / "results"
TABLES = (".csv", ".parquet", ".md")


def outcomes(name: str, copies: Path) -> dict[str, str]:
    """What became of every table of NAME, in a copy of results/."""
    before = {path.name: path.stat() for path in (copies / name).iterdir()}
    with contextlib.redirect_stdout(io.StringIO()):
        report(copies / name)
    found = {}
    for path in sorted((RESULTS / name).iterdir()):
        if path.suffix in TABLES:
            new = copies / name / path.name
            kept = new.stat().st_ino == before[path.name].st_ino and (
                new.stat().st_mtime_ns == before[path.name].st_mtime_ns
            )
            same = new.read_bytes() == path.read_bytes()
            found[path.name] = ("kept" if kept else "equal") if same else "DIFFERS"
    return found


def main() -> int:
    """Compare the named folders of results/, or all."""
    warnings.simplefilter("ignore", RuntimeWarning)
    names = sys.argv[1:] or sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
    differs = False
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(folder) / "results"
        shutil.copytree(RESULTS, copies)  # all of them: some studies read the runs of others
        for name in names:
            for table, outcome in outcomes(name, copies).items():
                print(f"{name}/{table}: {outcome}", flush=True)
                differs |= outcome == "DIFFERS"
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
