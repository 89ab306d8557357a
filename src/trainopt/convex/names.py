"""Which optimizers play which part in the convex study."""

from __future__ import annotations

TO = ("full", "diagonal", "rankone")
OURS = ("secant", *TO)
# The variants at the rate that no size of the weights upsets -> the same at the paper's.
NORMALISED = {f"{name}-normalised": name for name in ("diagonal", "rankone", "full")}
ABLATIONS = ("alpha0", "sgd", "fixed-b", "lagged")
