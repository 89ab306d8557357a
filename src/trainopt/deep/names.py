"""The optimizers of the deep study by name, in a plain table that needs no torch."""

from __future__ import annotations

_RATE = ("lr", "lr_schedule")
_LEARNING = ("beta", "alpha")  # α is drawn last: random trials try the same β as those of α = 0

# name -> title in tables and pictures, settings that are searched
OPTIMIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "diagonal": ("Diagonal-TO", (*_RATE, *_LEARNING)),
    "rankone": ("RankOne-TO", (*_RATE, *_LEARNING)),
    "alpha0": ("TO, α = 0", (*_RATE, "beta")),
    "adamw": ("AdamW", (*_RATE, "one_minus_beta1")),
    "sgd": ("SGD, momentum", (*_RATE, "one_minus_momentum")),
    "schedulefree": ("Schedule-free AdamW", (*_RATE, "one_minus_beta1")),
    "muon": ("Muon", (*_RATE, "one_minus_momentum")),
    "adafactor": ("Adafactor", _RATE),
    "lion": ("Lion", (*_RATE, "one_minus_beta1")),
    "adamw-diagonal": ("AdamW on Ĝ", _LEARNING),
    "adamw-rankone": ("AdamW on Ĝ, RankOne", _LEARNING),
    "adamw-alpha0": ("AdamW on Ĝ, α = 0", ("beta",)),
    "lion-diagonal": ("Lion on Ĝ", _LEARNING),
    "lion-alpha0": ("Lion on Ĝ, α = 0", ("beta",)),
    "muon-diagonal": ("Muon on Ĝ", _LEARNING),
    "muon-alpha0": ("Muon on Ĝ, α = 0", ("beta",)),
}
