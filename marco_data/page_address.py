"""What equal URLs and hosts have in common, so that a person's spelling of a page finds the source's.

In: URLs, as sources have them. Out: keys, which are equal for the same page: no scheme, user, port, fragment or `www.`,
no line break, the host in lower case and ASCII, no `/` or `?` at the end, and of percent-encodings one spelling.
Parameters of a query are part of a page's name. It does not know redirects, nor which pages show the same.
"""

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_SCHEME = "^[A-Za-z][A-Za-z0-9+.-]*://"
_HARD = "%|[^\\x00-\\x7F]"
"""What only the rows that have it are spelled again for, one by one."""

_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}|[^\x00-\x7f]+")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""RFC 3986, 2.3: these mean the same with and without percent-encoding."""

Strings = Any
"""An Arrow array of strings, in one piece or several."""


def url_keys(urls: Strings) -> Strings:
    """The key of each URL; null for null."""
    rest = pc.replace_substring_regex(_bare(urls), "^[^/?]*", "")
    rest = _again(pc.replace_substring_regex(rest, r"/?\??$", ""), _spelled)
    return pc.binary_join_element_wise(pc.replace_substring_regex(hosts(urls), r"^www\.", ""), rest, "")


def hosts(urls: Strings) -> Strings:
    """`https://me@A.example:8080/x` -> `a.example`."""
    authority = pc.replace_substring_regex(_bare(urls), "[/?].*$", "")
    host = pc.replace_substring_regex(authority, "^.*@", "")
    plain = pc.utf8_rtrim(pc.utf8_lower(pc.replace_substring_regex(host, r":\d*$", "")), ".")
    return _again(plain, ascii_host)


def ascii_host(host: str) -> str:
    """`bücher.example` -> `xn--bcher-kva.example`; what cannot be encoded stays as it is."""
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return host


def _bare(urls: Strings) -> Strings:
    one_line = pc.replace_substring_regex(pc.utf8_trim_whitespace(urls), "[\\t\\r\\n]", "")  # as browsers do
    plain = pc.replace_substring_regex(one_line, "#.*$", "")
    return pc.replace_substring_regex(plain, _SCHEME, "")


def _again(values: Strings, spelled: Callable[[str], str]) -> Strings:
    """The same, with what has escapes or other letters than ASCII's spelled anew."""
    hard = pc.fill_null(pc.match_substring_regex(values, _HARD), False)
    if not pc.any(hard).as_py():
        return values
    if isinstance(values, pa.ChunkedArray):
        values, hard = values.combine_chunks(), hard.combine_chunks()
    anew = pa.array([spelled(value) for value in values.filter(hard).to_pylist()], values.type)
    return pc.replace_with_mask(values, hard, anew)


def _spelled(path: str) -> str:
    """`/%7euser/%c3%bc`, `/~user/ü` -> `/~user/%C3%BC`."""
    return _ESCAPED.sub(lambda found: _escape(found[0]), path)


def _escape(found: str) -> str:
    if found[0] != "%":
        return "".join(f"%{byte:02X}" for byte in found.encode("utf-8", "surrogatepass"))
    character = chr(int(found[1:], 16))
    return character if character in _PLAIN else found.upper()
