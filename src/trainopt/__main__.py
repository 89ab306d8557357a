"""`python -m trainopt` is the `trainopt` command."""

from trainopt.cli import main

main()
