"""Text for logs, manifests and errors without what is secret in it.

In: a text that may quote a URL or what a library has said. Out: the same without names and passwords before a host,
values of a query, and values of environment variables whose names say that they are secret. It does not know a secret
that is written anywhere else.
"""

import os
import re
from urllib.parse import parse_qsl, quote, urlsplit

HIDDEN = "***"
SHORTEST = 8
"""Characters: shorter values of variables are words that texts hold anyway."""

_SECRET_NAME = re.compile(r"SECRET|PASSW|CREDENTIAL|ACCESS_?KEY|API_?KEY|_KEY$|TOKEN$", re.IGNORECASE)
_SIGNED = re.compile(r"^(sig|signature|auth|pwd|pass|key|token|x-(amz|goog)-(signature|credential))$", re.IGNORECASE)
_PLACE_NAME = re.compile(r"_(FILE|PATH|DIR|URL|URI)$", re.IGNORECASE)
# A port is no password, and what stands before the `@` of a store's URL alone may be its container: abfs://box@account.
_PASSWORD = re.compile(r"(?<=://)[^/:@\[\s`'\"<>]{0,200}:(?!\d{1,5}(?![^/\s`'\"<>?#]))[^@\s`'\"<>]{0,1000}@")
_USER = re.compile(r"((?:https?|ftp)://)[^/@\s`'\"<>]{0,1000}@", re.IGNORECASE)
_QUERY = re.compile(r"(?<=://)[^\s?`'\"<>]*\?[^\s`'\"<>]*")
_VALUE = re.compile(r"(?<==)[^&;#]+")


def redacted(text: str) -> str:
    """The text with `***` for what is secret in it; without a secret it is as it was."""
    if "://" in text:
        text = _QUERY.sub(lambda url: _without_values(url[0]), _without_user(text))
    for value in _values():
        text = text.replace(value, HIDDEN)
    return text


def public_url(path: str) -> str:
    """A path or URL of a recipe as others may see it: where data came from, not how it was let in."""
    if "://" not in path:
        return path
    path = _without_user(path)
    # In paths of other stores than web servers `?` stands for one character.
    return path.partition("?")[0] if path.startswith(("http://", "https://")) else path


def lets_in(path: str) -> bool:
    """Whether a path or URL holds what lets somebody in: a password, or a value under a name that says it is secret."""
    if "://" not in path:
        return False
    if _without_user(path) != path:
        return True
    return any(_SECRET_NAME.search(name) or _SIGNED.search(name) for name, _ in parse_qsl(urlsplit(path).query))


def _without_user(text: str) -> str:
    return _USER.sub(r"\1", _PASSWORD.sub("", text))


def _without_values(url: str) -> str:
    place, mark, query = url.partition("?")
    return place + mark + _VALUE.sub(HIDDEN, query)


def _values() -> list[str]:
    """The longest first: one may be part of another."""
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST and _SECRET_NAME.search(name) and not _PLACE_NAME.search(name)
    }
    spelled = {form for value in found for form in (value, quote(value, safe=""), quote(value), repr(value)[1:-1])}
    return sorted(spelled, key=lambda value: (-len(value), value))
