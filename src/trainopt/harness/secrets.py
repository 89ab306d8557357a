"""Passwords kept out of whatever is shown, recorded or raised: URLs of storages, and commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url

HIDDEN = "***"
_SECRET = re.compile("pass|pwd|secret|token|key|credential", re.IGNORECASE)
_URL = re.compile(r"[\w.+-]+://.*", re.DOTALL)


def shown(url: str) -> str:
    """The URL with *** for its passwords: the user's, and those in query parameters.

    A URL that doesn't parse, or whose password may have been taken for another part of it, keeps
    its scheme only.
    """
    scheme = f"{url.partition('://')[0]}://" if "://" in url else ""
    parsed = _parsed(url)
    if parsed is None:
        return scheme + HIDDEN
    # With an unescaped @ or ? in a password, the rest of it is taken for host, database or query.
    if url.partition("?")[0].count("@") != int("@" in parsed.render_as_string()):
        return scheme + HIDDEN
    query = {name: HIDDEN if _is_secret(name, value) else value for name, value in _query(parsed)}
    text = parsed.set(query=query).render_as_string(hide_password=True)
    return text.replace(quote_plus(HIDDEN), HIDDEN)


def without_secrets(text: str, url: str) -> str:
    """A text about a URL, such as a driver's error, with *** for what `shown` hides."""
    parsed = _parsed(url)
    if parsed is None or shown(url).endswith(f"://{HIDDEN}"):
        return "it isn't read as a URL, and isn't repeated here since it may hold a password"
    secrets = [value for name, value in _query(parsed) if _is_secret(name, value)]
    if parsed.password:
        secrets.append(str(parsed.password))
    text = text.replace(url, shown(url))
    forms = {form for s in secrets for form in (s, quote(s, safe=""), quote_plus(s), repr(s)[1:-1])}
    for form in sorted(forms - {""}, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def command_shown(words: Sequence[str]) -> list[str]:
    """The words of a command line, with every URL and every storage as `shown`."""
    return [_word(previous, word) for previous, word in pairwise(["", *words])]


def _word(previous: str, word: str) -> str:
    option, equals, value = word.partition("=")
    if previous == "--storage":
        return shown(word)
    if option == "--storage" and equals:
        return f"{option}={shown(value)}"
    return _URL.sub(lambda found: shown(found.group()), word)


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except Exception:  # ArgumentError, and whatever int() says of a port
        return None


def _query(url: URL) -> list[tuple[str, str]]:
    """The query parameters; one with several values has them with commas."""
    return [(k, v if isinstance(v, str) else ",".join(v)) for k, v in url.query.items()]


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET.search(name) or _SECRET.search(value))
