"""Which optimizers play which part in the convex study."""

from __future__ import annotations

TO = ("full", "diagonal", "rankone")
OURS = ("secant", *TO)
ABLATIONS = ("alpha0", "sgd", "fixed-b", "lagged")
