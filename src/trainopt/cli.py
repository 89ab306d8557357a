"""The `trainopt` command; says what to install when the benchmark's requirements are missing."""

import io
import sys


def main() -> None:
    """Run the command line; exit with code 2 and one sentence for what a user can put right."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # "?" where the terminal's encoding has no α
    try:
        from trainopt.bench.cli import app
        from trainopt.bench.terminal import sentences
    except ModuleNotFoundError as error:
        print(f"trainopt: {error}", file=sys.stderr)
        sys.exit(2)
    with sentences():
        app()
