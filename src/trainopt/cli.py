"""The `trainopt` command; says what to install when the benchmark's requirements are missing."""

import sys


def main() -> None:
    """Run the command line; exit with code 2 when a requirement is missing."""
    try:
        from trainopt.bench.cli import app
    except ModuleNotFoundError as error:
        print(f"trainopt: {error}", file=sys.stderr)
        sys.exit(2)
    app()
