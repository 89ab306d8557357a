"""`make mutants`: apply each wrong change of mutants.toml, and see some test fail.

Every change is made in a copy of the sources, with a cache of its own, so that nothing of the
working tree is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[2]


def main() -> int:
    mutants = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())["mutant"]
    chosen = sys.argv[1:]
    survivors = []
    for number, mutant in enumerate(mutants):
        if chosen and str(number) not in chosen:
            continue
        noticed = fails(mutant)
        what = f"{number} {mutant['file']}: {mutant['old']} -> {mutant['new'] or '(nothing)'}"
        print(f"{'noticed ' if noticed else 'SURVIVES'}  {what}", flush=True)
        survivors += [] if noticed else [what]
    print(f"{len(survivors)} of {len(chosen or mutants)} survive")
    return 1 if survivors else 0


def fails(mutant: dict[str, object]) -> bool:
    """Whether the named tests fail on the changed sources."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "src")
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        file = source / "trainopt" / str(mutant["file"])
        text = file.read_text()
        if text.count(str(mutant["old"])) != 1:
            sys.exit(f"{mutant['file']} doesn't hold this once: {mutant['old']}")
        file.write_text(text.replace(str(mutant["old"]), str(mutant["new"])))
        cache = Path(folder, "cache")
        cache.mkdir(mode=0o700)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *mutant["tests"]],  # type: ignore[misc]
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(source), "TRAINOPT_CACHE": str(cache)},
            capture_output=True,
            check=False,
        )
        if done.returncode > 1:
            sys.exit(f"the tests of {mutant['file']} can't run: {done.stdout.decode()[-2000:]}")
        return done.returncode != 0  # a crash of the process is noticed, too


if __name__ == "__main__":
    sys.exit(main())
