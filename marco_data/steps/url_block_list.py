"""URL block list: a document's `url` in, a verdict out. Reads no text.

A list is a text file, one entry a line, `#` begins a comment. A domain blocks itself and its subdomains; a word
blocks every URL that contains it, whatever the case. Documents without a URL are kept.
"""

import hashlib
import re
from typing import ClassVar, Self
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import model_validator

from marco_data.errors import RecipeError
from marco_data.languages import Language
from marco_data.step import BoundStep, Step, StepOutput, Tools

DOMAIN = "url_block_list/blocked_domain"
WORD = "url_block_list/blocked_word"


class UrlBlockList(Step):
    """Drops documents whose URL is on a list; `domains` and `words` are paths or URIs of lists."""

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("url",)
    reasons: ClassVar[frozenset[str]] = frozenset({DOMAIN, WORD})

    domains: str | None = None
    words: str | None = None

    @model_validator(mode="after")
    def _names_a_list(self) -> Self:
        if self.domains is None and self.words is None:
            raise RecipeError("step `url_block_list` names no list", hint="give it `domains:` or `words:`, a path")
        return self

    def content(self, tools: Tools) -> dict[str, str]:
        lists = {"domains": self.domains, "words": self.words}
        return {
            name: hashlib.sha256("\n".join(sorted(_entries(uri, tools))).encode()).hexdigest()
            for name, uri in lists.items()
            if uri is not None
        }

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        domains = frozenset() if self.domains is None else _entries(self.domains, tools)
        words = frozenset() if self.words is None else _entries(self.words, tools)
        word = re.compile("|".join(map(re.escape, sorted(words)))) if words else None

        def reason(url: str | None) -> str | None:
            if url is None:
                return None
            if not domains.isdisjoint(domains_of(url)):
                return DOMAIN
            return WORD if word is not None and word.search(url.lower()) else None

        def judge(batch: pa.RecordBatch) -> StepOutput:
            reasons = [reason(url) for url in batch.column("url").to_pylist()]
            return StepOutput(reason=pa.array(reasons, pa.string()))

        return judge


def domains_of(url: str) -> list[str]:
    """`https://a.b.example/x` -> `a.b.example`, `b.example`, `example`; none where there is no host."""
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname
    except ValueError:  # an unclosed bracket of an IPv6 address
        return []
    if not host:
        return []
    labels = host.rstrip(".").split(".")
    return [".".join(labels[i:]) for i in range(len(labels))]


def _entries(uri: str, tools: Tools) -> frozenset[str]:
    try:
        text = tools.path(uri).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the block list `{uri}`: {error}") from None
    lines = (line.partition("#")[0].strip().lower() for line in text.splitlines())
    return frozenset(line for line in lines if line)
