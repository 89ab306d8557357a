"""What every optimizer and solver is called and how it is drawn, the same in every picture.

The colours are readable on white (contrast 3:1 or more) and those of the leading ones also apart
for colour-blind readers; relatives share one and differ by their dashes; a marker stands beside it.
This needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Style:
    """How one is drawn.

    Attributes:
        title: in tables, legends and sentences.
        colour: hex.
        dash: "solid", "dash", "dot" or "dashdot".
        marker: one of `SYMBOLS`.
        width: of the line, in points.
    """

    title: str
    colour: str
    dash: str = "solid"
    marker: str = "o"
    width: float = 1.5


# Markers of matplotlib, and the same of plotly.
SYMBOLS = {
    "*": "star", "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond",
    "v": "triangle-down", "X": "x", "P": "cross", "h": "hexagon", "p": "pentagon",
}  # fmt: skip

_VERMILION, _INDIGO, _BLUE, _GREEN = "#D55E00", "#332288", "#0072B2", "#009E73"
_BLACK, _WINE, _GREY, _BROWN = "#000000", "#882255", "#6E6E6E", "#7B4B2A"
_PURPLE, _TEAL, _GOLD, _PINK = "#AA4499", "#00838F", "#8C6D00", "#C2557A"
_OLIVE, _FOREST, _SLATE = "#556B2F", "#117733", "#546E7A"

PALETTE = {
    "secant": Style("SecantTO", _VERMILION, marker="*", width=3.2),
    "secant-tuned": Style("SecantTO, tuned", _VERMILION, "dash", "*", 2.2),
    "full": Style("Full-TO", _INDIGO, marker="s", width=2.4),
    "diagonal": Style("Diagonal-TO", _BLUE, marker="o", width=2.4),
    "rankone": Style("RankOne-TO", _GREEN, marker="^", width=2.4),
    "full-normalised": Style("Full-TO, normalised", _INDIGO, "dash", "s"),
    "diagonal-normalised": Style("Diagonal-TO, normalised", _BLUE, "dashdot"),
    "rankone-normalised": Style("RankOne-TO, normalised", _GREEN, "dash", "^"),
    "alpha0": Style("TO, α = 0", _BLACK, "dash", "D", 2.0),
    "fixed-b": Style("Diagonal-TO, b fixed", _BLUE, "dash"),
    "lagged": Style("Diagonal-TO, Ĝ before update", _BLUE, "dot"),
    "adam": Style("ADAM", _WINE, marker="v"),
    "adam-constant": Style("ADAM, constant rate", _WINE, "dash", "v"),
    "adam-chunks": Style("ADAM, fixed chunks", _WINE, "dashdot", "v"),
    "adam-base": Style("ADAM, the base phase only", _WINE, "dot", "v"),
    "adamw": Style("AdamW", _PURPLE, marker="v"),
    "adamw-diagonal": Style("AdamW on Ĝ", _PURPLE, "dash", "o"),
    "adamw-rankone": Style("AdamW on Ĝ, RankOne", _PURPLE, "dashdot", "^"),
    "adamw-alpha0": Style("AdamW on Ĝ, α = 0", _PURPLE, "dot", "D"),
    "sgd": Style("SGD", _BROWN, marker="X"),
    "momentum": Style("SGD, momentum", _BROWN, "dash", "X"),
    "averaged": Style("SGD, averaged", _BROWN, "dot", "X"),
    "schedulefree-sgd": Style("Schedule-free SGD", _GREY, marker="P"),
    "schedulefree-adamw": Style("Schedule-free AdamW", _GREY, "dash", "P"),
    "adagrad": Style("Adagrad", _TEAL, marker="h"),
    "rmsprop": Style("RMSprop", _TEAL, "dash", "h"),
    "muon": Style("Muon", _SLATE, marker="p"),
    "muon-diagonal": Style("Muon on Ĝ", _SLATE, "dash", "o"),
    "muon-alpha0": Style("Muon on Ĝ, α = 0", _SLATE, "dot", "D"),
    "lion": Style("Lion", _GOLD, marker="s"),
    "lion-diagonal": Style("Lion on Ĝ", _GOLD, "dash", "o"),
    "lion-alpha0": Style("Lion on Ĝ, α = 0", _GOLD, "dot", "D"),
    "adafactor": Style("Adafactor", _PINK, marker="h"),
    "svrg": Style("SVRG", _OLIVE, marker="p"),
    "sag": Style("SAG", _OLIVE, "dash", "p"),
    "saga": Style("SAGA", _OLIVE, "dot", "p"),
    "lbfgs": Style("L-BFGS", _FOREST, marker="s"),
    "adam-lbfgs": Style("ADAM → L-BFGS", _FOREST, "dash", "s"),
    "adam-bfgs": Style("ADAM → self-scaled BFGS", _FOREST, "dot", "s"),
}
TITLES = {name: style.title for name, style in PALETTE.items()}

# The first in every picture; no picture has more lines than MOST.
LEADING = (
    "secant", "full", "diagonal", "rankone", "alpha0", "adam", "adamw", "schedulefree-sgd",
)  # fmt: skip
MOST = 8
# How a verdict is drawn: colour, marker, and whether that is filled.
VERDICTS = {
    "win": (_GREEN, "o", True),
    "tie": (_GREY, "o", False),
    "loss": (_VERMILION, "s", True),
}


def at_most(names: Iterable[str], ends: Mapping[str, float], most: int = MOST) -> list[str]:
    """The names that a picture shows, in the palette's order.

    Args:
        names: all that could be shown.
        ends: where each ended, lower is better; one that isn't there comes last.
        most: how many lines a reader can tell apart.
    """
    there = [name for name in PALETTE if name in set(names)]
    first = [name for name in LEADING if name in there]
    others = sorted(set(there) - set(first), key=lambda name: ends.get(name, float("inf")))
    kept = (first + others)[:most]
    return [name for name in there if name in kept]


def looks(names: Iterable[str]) -> dict[str, Any]:
    """The styles of these names as JSON-like values, for pages."""
    return {
        name: {
            "title": style.title,
            "colour": style.colour,
            "dash": style.dash,
            "symbol": SYMBOLS[style.marker],
            "width": style.width,
        }
        for name, style in PALETTE.items()
        if name in set(names)
    }
