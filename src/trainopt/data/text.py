"""Texts: sentences with a sentiment, and novels."""

from __future__ import annotations

import json

from trainopt.data.packages import Archive
from trainopt.data.r_tables import lazy_object

SENTIMENT = Archive(
    "npm",
    "sentiment@5.0.2",
    "89302eb03d2005d03b214fe65814bb48adb7d3c42c8ca80bdee6a3ecb7e4480f",
    "MIT",
)
AUSTEN = Archive(
    "debian",
    "r/r-cran-janeaustenr/r-cran-janeaustenr_1.0.0-1_all.deb",
    "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    "MIT",
)
_NOVELS = {
    "Sense and Sensibility": "sensesensibility",
    "Pride and Prejudice": "prideprejudice",
    "Mansfield Park": "mansfieldpark",
    "Emma": "emma",
    "Northanger Abbey": "northangerabbey",
    "Persuasion": "persuasion",
}


def sentiment() -> list[tuple[str, int]]:
    """Sentences of reviews of products, films and restaurants, with 1 for a good one and 0 for bad.

    About 3000, half of each; the sources follow one another, so shuffle before a split. A sentence
    that comes twice is given once, or it could stand on both sides of the split.

    Raises:
        InputError: the package isn't in the cache and can't be fetched (that needs npm).
    """
    found: dict[str, int] = {}
    for source in ("amazon", "imdb", "yelp"):
        for entry in json.loads(SENTIMENT.read(f"test/fixtures/{source}.json")):
            if entry["class"] is not None:
                found.setdefault(entry["text"].strip(), int(entry["class"]))
    return list(found.items())


def austen() -> dict[str, str]:
    """Jane Austen's six novels by title, in the order of their publication: 4.0 MB of plain text.

    Raises:
        InputError: the package isn't in the cache and can't be fetched.
    """
    index, database = (AUSTEN.read(f"janeaustenr/data/Rdata.{end}") for end in ("rdx", "rdb"))
    return {title: "\n".join(lazy_object(index, database, name)) for title, name in _NOVELS.items()}
