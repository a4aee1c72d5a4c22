"""V2 macaroons: one spelling, pymacaroons' signature, and no input that is a fault."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymacaroons import MACAROON_V2
from pymacaroons import Macaroon as Reference
from pymacaroons.serializers import BinarySerializer

from proxy.payments.l402.macaroon import (
    BYTES_MAX,
    CAVEAT_COUNT_MAX,
    CHARS_MAX,
    Macaroon,
    MalformedMacaroon,
    mint,
    parse,
)

KEY = b"k" * 32
CAVEATS = (b"RequestPath = /v1/chat/completions", b"Model = " + b"m" * 300, b"MaxTokens = 1")
MINTED = mint(KEY, location=b"tollway", identifier=b"\x00\x00" + b"i" * 64, caveats=CAVEATS)


def reference(key: bytes, location: str, identifier: bytes, caveats: list[str]) -> Reference:
    made = Reference(location=location, identifier=identifier, key=key, version=MACAROON_V2)
    for caveat in caveats:
        made.add_first_party_caveat(caveat)
    return made


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=200)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=66, max_size=66), st.lists(TEXTS, max_size=6))
def test_bytes_and_signature_are_those_of_pymacaroons(key: bytes, identifier: bytes, caveats: list[str]) -> None:
    """Both ways: what we mint it would have made, and what it makes we read and find signed."""
    ours = mint(key, location=b"tollway", identifier=identifier, caveats=tuple(one.encode() for one in caveats))
    raw = BinarySerializer().serialize_raw(reference(key, "tollway", identifier, caveats))
    assert ours.encode() == raw
    assert parse(b64(raw)) == ours
    assert ours.signed_by(key)
    assert not ours.signed_by(key[::-1] if key != key[::-1] else b"other" * 6)


def test_macaroon_of_another_service_is_read() -> None:
    """Version, location and encoding are what the published sample of the service shows: AgEJbGxtNDAyLmFp."""
    text = mint(KEY, location=b"llm402.ai", identifier=b"i" * 66, caveats=()).text()
    assert text.startswith("AgEJbGxtNDAyLmFp")


@given(st.integers(0, len(MINTED.encode()) - 1), st.integers(1, 255))
def test_no_changed_byte_keeps_the_signature(position: int, flip: int) -> None:
    """Every byte but the location's, which no macaroon's signature covers, is malformed or unsigned when changed."""
    raw = bytearray(MINTED.encode())
    raw[position] ^= flip
    try:
        changed = parse(b64(bytes(raw)))
    except MalformedMacaroon:
        return
    assert changed != MINTED
    assert changed.location != MINTED.location or not changed.signed_by(KEY)


def test_truncated_is_malformed() -> None:
    """Wherever it is cut."""
    raw = MINTED.encode()
    for length in range(len(raw)):
        with pytest.raises(MalformedMacaroon):
            parse(b64(raw[:length]))


RAW = MINTED.encode()
HEAD = b"\x02\x01\x07tollway\x02\x01i\x00"
TAIL = b"\x00\x06\x20" + b"s" * 32


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(RAW + b"\x00", id="trailing byte"),
        pytest.param(RAW + RAW, id="twice"),
        pytest.param(b"\x01" + RAW[1:], id="version 1"),
        pytest.param(b"0" + RAW[1:], id="version 1 in hex"),
        pytest.param(b"\x02\x01\x87\x00tollway\x02\x01i\x00" + TAIL, id="length longer than need be"),
        pytest.param(b"\x02\x01\x87\x80\x00tollway\x02\x01i\x00" + TAIL, id="length of three bytes"),
        pytest.param(b"\x02\x02\x01i\x00" + TAIL, id="no location"),
        pytest.param(b"\x02\x01\x07tollway\x00" + TAIL, id="no identifier"),
        pytest.param(b"\x02\x02\x01i\x01\x07tollway\x00" + TAIL, id="fields out of order"),
        pytest.param(HEAD + b"\x01\x01l\x02\x01c\x04\x01v\x00" + TAIL, id="third-party caveat"),
        pytest.param(HEAD + b"\x02\x01c\x04\x01v\x00" + TAIL, id="caveat with a verification id"),
        pytest.param(HEAD + b"\x00\x06\x1f" + b"s" * 31, id="short signature"),
        pytest.param(HEAD + b"\x00\x06\x21" + b"s" * 33, id="long signature"),
        pytest.param(HEAD + b"\x02\x01c\x00" * (CAVEAT_COUNT_MAX + 1) + TAIL, id="too many caveats"),
        pytest.param(HEAD + b"\x02\xff\x7f" + b"c" * 99 + b"\x00" + TAIL, id="length beyond the end"),
    ],
)
def test_other_forms_are_malformed(raw: bytes) -> None:
    """There is one spelling of a macaroon of ours."""
    assert parse(b64(HEAD + TAIL)).caveats == ()
    with pytest.raises(MalformedMacaroon):
        parse(b64(raw))


@pytest.mark.parametrize(
    "text",
    [
        MINTED.text().rstrip("=") if MINTED.text().endswith("=") else MINTED.text() + "=",
        MINTED.text() + "\n",
        " " + MINTED.text(),
        base64.urlsafe_b64encode(b"\x02\xfb\xff").decode(),
        "é" + MINTED.text(),
        MINTED.encode().hex(),
        "",
        "====",
    ],
)
def test_other_spellings_in_base64_are_malformed(text: str) -> None:
    """Standard alphabet, padded, nothing around it."""
    with pytest.raises(MalformedMacaroon):
        parse(text)


def test_stray_bits_behind_the_last_byte_are_malformed() -> None:
    """`AB==` and `AA==` are one byte: only one of them is a spelling of it."""
    raw = mint(KEY, location=b"tollway", identifier=b"i" * 66, caveats=(b"A = 1",)).encode()
    assert len(raw) % 3
    text = b64(raw)
    bare = text.rstrip("=")
    other = bare[:-1] + chr(ord(bare[-1]) + 1) + "=" * (len(text) - len(bare))
    assert base64.b64decode(other) == raw
    with pytest.raises(MalformedMacaroon):
        parse(other)


def test_oversized_is_refused_before_it_is_decoded() -> None:
    """The largest that is taken is 3 kB."""
    room = BYTES_MAX - len(mint(KEY, location=b"t", identifier=b"i" * 66, caveats=(b"x" * 200,)).encode())
    largest = mint(KEY, location=b"t", identifier=b"i" * 66, caveats=(b"x" * (200 + room),))
    assert parse(largest.text()) == largest
    larger = mint(KEY, location=b"t", identifier=b"i" * 66, caveats=(b"x" * (201 + room),))
    with pytest.raises(MalformedMacaroon, match=str(CHARS_MAX)):
        parse(larger.text())


@given(
    st.one_of(
        st.text(max_size=400), st.binary(max_size=400).map(b64), st.binary(max_size=300).map(lambda r: b64(b"\x02" + r))
    )
)
@example("AgEA")
def test_no_text_is_a_fault(text: str) -> None:
    """A macaroon with this very spelling, or malformed."""
    try:
        assert parse(text).text() == text
    except MalformedMacaroon:
        return


def test_signature_is_not_shown() -> None:
    """Whoever has it has the macaroon."""
    assert MINTED.signature.hex() not in repr(MINTED)
    assert repr(MINTED.signature) not in repr(Macaroon(b"", b"", (), MINTED.signature))
