"""Mask personal data: `text` in, the same text with e-mail addresses and public IPv4 addresses replaced out.

As FineWeb-2 does, but one example address for each kind (datatrove goes round a list, so that its output depends on
what it saw before), and no IPv4 address inside a longer run of numbers (`1.2.3.4.5` is a version or a section).
Telephone numbers are an option, only in international form (`+49 30 1234567`). Masking twice equals
masking once, but where two addresses touch with nothing between them.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import ClassVar

import pyarrow as pa

from marco_data.languages import Language
from marco_data.step import BoundStep, Step, StepOutput, Tools

# Reserved for examples: RFC 2606, RFC 5737 and the fictitious 555-01xx numbers.
EMAIL = "email@example.com"
IP_ADDRESS = "192.0.2.1"
PHONE = "+1 202-555-0100"

# The lengths are RFC 5321's (64 before the @, 253 after). They keep the search linear: without them every letter
# of a long run without an @ starts a look to its end.
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]"
_BEFORE_AT = re.compile(rf"\b(?!\.)(?:(?!\.\.){_LOCAL}){{0,63}}(?!\.){_LOCAL}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_AFTER_AT = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
_IP_ADDRESS = re.compile(rf"(?<![0-9.])(?:{_BYTE}\.){{3}}{_BYTE}(?![0-9]|\.[0-9])")
_PHONE = re.compile(
    r"(?<![\w+])\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9](?:[ .-]?[0-9]){6,12}(?![ .-]?[0-9])"
)


class MaskPii(Step):
    """Replaces personal data by examples; drops nothing."""

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema([("mask_pii_masked", pa.int32())])

    emails: bool = True
    ip_addresses: bool = True
    phones: bool = False

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def mask_batch(batch: pa.RecordBatch) -> StepOutput:
            rows = [self.mask(text) for text in batch.column("text").to_pylist()]
            return StepOutput(
                columns={
                    "text": pa.array([text for text, _ in rows], batch.schema.field("text").type),
                    "mask_pii_masked": pa.array([masked for _, masked in rows], pa.int32()),
                }
            )

        return mask_batch

    def mask(self, text: str) -> tuple[str, int]:
        """The masked text and how many replacements changed it."""
        masked = 0
        if self.emails and "@" in text:
            text, masked = mask_emails(text)
        if self.ip_addresses:
            text, n = _replace(_IP_ADDRESS, text, IP_ADDRESS, _is_public)
            masked += n
        if self.phones and "+" in text:
            text, n = _replace(_PHONE, text, PHONE, lambda found: found != PHONE)
            masked += n
        return text, masked


def mask_emails(text: str) -> tuple[str, int]:
    """Each @ is looked at with what may belong to its address, at most 320 characters around it."""
    pieces: list[str] = []
    masked = done = 0
    at = text.find("@")
    while at >= 0:
        after = _AFTER_AT.match(text, at + 1, at + 254)
        before = after and _BEFORE_AT.search(text, max(done, at - 64), at)
        if after is None or before is None:
            at = text.find("@", at + 1)
            continue
        masked += text[before.start() : after.end()] != EMAIL
        pieces += [text[done : before.start()], EMAIL]
        done = after.end()
        at = text.find("@", done)
    return "".join([*pieces, text[done:]]), masked


def _replace(pattern: re.Pattern[str], text: str, example: str, is_personal: Callable[[str], bool]) -> tuple[str, int]:
    masked = 0

    def replacement(found: re.Match[str]) -> str:
        nonlocal masked
        if not is_personal(found[0]):
            return found[0]
        masked += 1
        return example

    return pattern.sub(replacement, text), masked


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:  # a leading zero, as in 01.2.3.4
        return False
