"""MaskPii: what is masked, what is left, and that it does as datatrove does."""

import time

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from marco_data.step import Tools, run_step
from marco_data.steps.mask_pii import EMAIL, IP_ADDRESS, PHONE, MaskPii

ALL = MaskPii(phones=True)


@pytest.mark.parametrize(
    ("before", "after", "masked"),
    [
        ("write to ann.lee+x@mail.example.co.uk.", f"write to {EMAIL}.", 1),
        ("a@b.de,c@d.fr", f"{EMAIL},{EMAIL}", 2),
        ("<o'neil@x.org>", f"<{EMAIL}>", 1),
        (f"write to {EMAIL}", f"write to {EMAIL}", 0),
        ("user@localhost, @handle, a@ b.de, x..y@z", "user@localhost, @handle, a@ b.de, x..y@z", 0),
        ("from 8.8.8.8 to 10.0.0.1", f"from {IP_ADDRESS} to 10.0.0.1", 1),
        ("version 1.2.3.4.5 or 8.8.8.888", "version 1.2.3.4.5 or 8.8.8.888", 0),
        ("192.168.1.1 127.0.0.1 01.2.3.4", "192.168.1.1 127.0.0.1 01.2.3.4", 0),
        ("call +49 30 1234567 or +1 (415) 555-2671", f"call {PHONE} or {PHONE}", 2),
        ("1+2345678901, +12, +1234567890123456789", "1+2345678901, +12, +1234567890123456789", 0),
        ("รหัส a@b.th ครับ", f"รหัส {EMAIL} ครับ", 1),
    ],
)
def test_what_is_masked(before: str, after: str, masked: int):
    assert ALL.mask(before) == (after, masked)


def test_each_kind_can_be_left_as_it_is_and_phones_are_by_default():
    text = "a@b.de 8.8.8.8 +49 30 1234567"
    assert MaskPii().mask(text) == (f"{EMAIL} {IP_ADDRESS} +49 30 1234567", 2)
    assert MaskPii(emails=False, ip_addresses=False).mask(text) == (text, 0)


def test_masked_counts_are_a_column():
    output = run_step(ALL, ALL.bind(None, Tools()), pa.record_batch({"text": ["a@b.de", "none"]}))
    assert output.columns["text"].to_pylist() == [EMAIL, "none"]
    assert output.columns["mask_pii_masked"].to_pylist() == [1, 0]


ADDRESSES = ["8.8.8.8", "10.0.0.1", "300.1.1.1", "+49 30 1234567", EMAIL]
PIECES = st.sampled_from([*ADDRESSES, *"@@.-é_,['中%9+ \n", "..", "ann", "b-c", "x.org", "co.uk", "(0)"])
TEXT = st.lists(PIECES, max_size=30).map("".join)


@given(TEXT)
def test_masking_twice_is_masking_once_but_for_addresses_that_touch(text: str):
    once, _ = ALL.mask(text)
    assume(EMAIL + EMAIL not in once)
    assert ALL.mask(once) == (once, 0)


@given(TEXT)
def test_emails_are_those_datatrove_masks(text: str):
    pii = pytest.importorskip("datatrove.pipeline.formatters.pii")
    theirs = pii.PIIFormatter(remove_ips=False, email_replacement=EMAIL).format(text)
    assert MaskPii(ip_addresses=False).mask(text)[0] == theirs


@given(st.lists(st.sampled_from(["8.8.8.8", "10.0.0.1", "1.1.1.1", "224.0.0.1", "01.1.1.1"]), max_size=5))
def test_free_standing_addresses_are_those_datatrove_masks(addresses: list[str]):
    pii = pytest.importorskip("datatrove.pipeline.formatters.pii")
    text = ", ".join(addresses)
    theirs = pii.PIIFormatter(remove_emails=False, ip_replacement=IP_ADDRESS).format(text)
    assert MaskPii(emails=False).mask(text)[0] == theirs


@pytest.mark.parametrize("unit", ["a", "a-", "a.", "@", "a@", "a.b@", "1.", "+1 ", "+4930 123 "])
def test_a_megabyte_made_to_be_slow_takes_seconds(unit: str):
    text = unit * (1_000_000 // len(unit))
    start = time.perf_counter()
    ALL.mask(text)
    assert time.perf_counter() - start < 10
