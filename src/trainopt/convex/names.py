"""Which optimizers play which part in the convex study."""

from __future__ import annotations

from trainopt.harness.palette import TITLES

__all__ = ["ABLATIONS", "OURS", "TITLES", "TO"]

TO = ("full", "diagonal", "rankone")
OURS = ("secant", *TO)
ABLATIONS = ("alpha0", "sgd", "fixed-b", "lagged")
