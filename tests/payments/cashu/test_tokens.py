"""Tokens as they travel: the published vectors, what is refused, and junk that never does more than be refused."""

from __future__ import annotations

import base64
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.payments.cashu.tokens import (
    TOKEN_CHARS_MAX,
    BadToken,
    Dleq,
    Note,
    TooManyNotes,
    encode_request,
    encode_token,
    parse_token,
)

SINGLE = (
    "cashuBpGF0gaJhaUgArSaMTR9YJmFwgaNhYQFhc3hAOWE2ZGJiODQ3YmQyMzJiYTc2ZGIwZGYxOTcyMTZiMjlkM2I4Y2MxNDU1M2NkMjc4MjdmYzFj"
    "Yzk0MmZlZGI0ZWFjWCEDhhhUP_trhpXfStS6vN6So0qWvc2X3O4NfM-Y1HISZ5JhZGlUaGFuayB5b3VhbXVodHRwOi8vbG9jYWxob3N0OjMzMzhhdWNz"
    "YXQ="
)
MANY = (
    "cashuBo2F0gqJhaUgA_9SLj17PgGFwgaNhYQFhc3hAYWNjMTI0MzVlN2I4NDg0YzNjZjE4NTAxNDkyMThhZjkwZjcxNmE1MmJmNGE1ZWQzNDdlNDhlY2"
    "MxM2Y3NzM4OGFjWCECRFODGd5IXVW-07KaZCvuWHk3WrnnpiDhHki6SCQh88-iYWlIAK0mjE0fWCZhcIKjYWECYXN4QDEzMjNkM2Q0NzA3YTU4YWQyZT"
    "IzYWRhNGU5ZjFmNDlmNWE1YjRhYzdiNzA4ZWIwZDYxZjczOGY0ODMwN2U4ZWVhY1ghAjRWqhENhLSsdHrr2Cw7AFrKUL9Ffr1XN6RBT6w659lNo2FhAW"
    "FzeEA1NmJjYmNiYjdjYzY0MDZiM2ZhNWQ1N2QyMTc0ZjRlZmY4YjQ0MDJiMTc2OTI2ZDNhNTdkM2MzZGNiYjU5ZDU3YWNYIQJzEpxXGeWZN5qXSmJjY8"
    "MzxWyvwObQGr5G1YCCgHicY2FtdWh0dHA6Ly9sb2NhbGhvc3Q6MzMzOGF1Y3NhdA=="
)
"""NUT-00, test vectors of version 4."""
POINT = bytes.fromhex("02bc9097997d81afb2cc7346b5e4345a9346bd2a506eb7958598a72f0cf85163ea")


def proof(**changes: Any) -> dict[str, Any]:
    return {"a": 8, "s": "5" * 64, "c": POINT, **changes}


def members(*proofs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"m": "https://mint.test", "u": "sat", "t": [{"i": bytes(8), "p": list(proofs or [proof()])}], **changes}


def wrapped(document: Any) -> str:
    raw = document if isinstance(document, bytes) else cbor2.dumps(document)
    return "cashuB" + base64.urlsafe_b64encode(raw).decode()


def refusal(text: str) -> str:
    with pytest.raises(BadToken) as refused:
        parse_token(text, notes_max=20)
    return str(refused.value)


def test_vector_of_one_keyset() -> None:
    """NUT-00: one note and a memo."""
    token = parse_token(SINGLE, notes_max=20)
    assert (token.mint, token.unit, token.memo, token.amount) == ("http://localhost:3338", "sat", "Thank you", 1)
    (note,) = token.notes
    assert (note.keyset, note.amount) == ("00ad268c4d1f5826", 1)
    assert note.secret == "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e"
    assert note.signature.hex() == "038618543ffb6b8695df4ad4babcde92a34a96bdcd97dcee0d7ccf98d472126792"


def test_vector_of_many_keysets() -> None:
    """NUT-00: three notes of two keysets."""
    token = parse_token(MANY, notes_max=20)
    assert [(note.keyset, note.amount) for note in token.notes] == [
        ("00ffd48b8f5ecf80", 1),
        ("00ad268c4d1f5826", 2),
        ("00ad268c4d1f5826", 1),
    ]


@pytest.mark.parametrize("text", [SINGLE, MANY])
def test_padding_may_be_left_out(text: str) -> None:
    """NUT-00: both are decoded."""
    assert parse_token(text.rstrip("="), notes_max=20) == parse_token(text, notes_max=20)


def test_what_is_written_is_read() -> None:
    """Proofs of signature travel where they are wanted."""
    proven = Note("01" * 33, 4, "6" * 64, POINT, Dleq(b"e" * 32, b"s" * 32, b"r" * 32))
    plain = Note("00ad268c4d1f5826", 8, "7" * 64, POINT)
    token = parse_token(encode_token("https://mint.test/a", [proven, plain]), notes_max=20)
    assert (token.mint, token.notes) == ("https://mint.test/a", (proven, plain))
    bare = parse_token(encode_token("https://mint.test/a", [proven, plain], dleq=False), notes_max=20)
    assert [note.dleq for note in bare.notes] == [None, None]


def test_payment_request_is_cbor() -> None:
    """NUT-18 and NUT-24: amount, unit and mints, no transport."""
    text = encode_request(42, ["https://a.test", "https://b.test/x"])
    body = text.removeprefix("creqA")
    decoded = cbor2.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert decoded == {"a": 42, "u": "sat", "m": ["https://a.test", "https://b.test/x"]}


def test_unknown_members_are_ignored() -> None:
    """NUT-00 wants that, at every level."""
    token = parse_token(wrapped(members(proof(x=[1, {"y": 2}], w=None), z=1.5)), notes_max=20)
    assert token.amount == 8


def test_version_3_is_told_to_be_version_4() -> None:
    """The error says what to send."""
    assert "cashuB" in refusal("cashuAeyJ0b2tlbiI6W119")


def test_notes_are_counted_before_they_are_read() -> None:
    """Twenty-one are too many, whatever is in them."""
    with pytest.raises(TooManyNotes):
        parse_token(wrapped(members(*[{"junk": 1}] * 21)), notes_max=20)
    split = members(t=[{"i": bytes(8), "p": [proof()] * 11}, {"i": bytes(8), "p": [proof()] * 10}])
    with pytest.raises(TooManyNotes):
        parse_token(wrapped(split), notes_max=20)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (members(proof(), proof()), "twice"),
        (members(t=[]), "no note"),
        (members(t=[{"i": bytes(8), "p": []}]), "no note"),
        (members(proof(a=3)), "power of two"),
        (members(proof(a=0)), "power of two"),
        (members(proof(a=-8)), "power of two"),
        (members(proof(a=1 << 60)), "power of two"),
        (members(proof(a=True)), "'a'"),
        (members(proof(a=8.0)), "'a'"),
        (members(proof(a="8")), "'a'"),
        (members(proof(s="")), "secret"),
        (members(proof(s="5" * 1025)), "secret"),
        (members(proof(s=b"5")), "'s'"),
        (members(proof(c=POINT[:-1])), "33 bytes"),
        (members(proof(c=b"\x04" + POINT[1:])), "33 bytes"),
        (members(proof(d={"e": b"", "s": b"", "r": b""})), "32 bytes"),
        (members(proof(d=[])), "NUT-00"),
        (members(t=[{"i": bytes(9), "p": [proof()]}]), "8 or 33"),
        (members(t={"i": bytes(8)}), "'t'"),
        (members(t=[1]), "NUT-00"),
        (members(m=None), "'m'"),
        (members(u=7), "'u'"),
        ([1], "map"),
        (cbor2.dumps(members()) + b"\x00", "follows"),
        (cbor2.dumps(members())[:-1], "CBOR"),
        (b"\xa2\x61m\x61a\x61m\x61b", "CBOR"),
        (b"\xbf\x61m\x61a\xff", "CBOR"),
        (cbor2.dumps(cbor2.CBORTag(35, "(a+)+")), "CBOR"),
        (b"\x81" * 1000, "CBOR"),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "CBOR"),
        (b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "CBOR"),
        (cbor2.dumps({1: 2}), "CBOR"),
    ],
)
def test_malformed_tokens_are_refused_in_words(document: Any, says: str) -> None:
    """Each fault has an error of its own, and none repeats what was sent."""
    assert says in refusal(wrapped(document))


@pytest.mark.parametrize(
    "text", ["", "cashu", "cashuC", "cashuB", "cashuB=", "cashuB====", "cashuB a", "cashuBé", "cashuBA"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    """Nothing is skipped, nothing is guessed."""
    assert refusal(text)


def test_length_is_looked_at_first() -> None:
    """Nothing long is decoded."""
    assert "longer" in refusal("cashuB" + "A" * TOKEN_CHARS_MAX)


@given(st.one_of(st.text(max_size=200), st.text(max_size=200).map("cashuB".__add__)))
@settings(max_examples=200)
def test_junk_text_is_only_ever_refused(text: str) -> None:
    """No other exception leaves the parser."""
    with pytest.raises(BadToken):
        parse_token(text, notes_max=20)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_junk_bytes_are_only_ever_refused(raw: bytes) -> None:
    """The same behind the prefix."""
    with pytest.raises(BadToken):
        parse_token(wrapped(raw), notes_max=20)


@given(position=st.integers(0, 400), value=st.integers(0, 255))
@settings(max_examples=300)
def test_damaged_tokens_are_read_or_refused(position: int, value: int) -> None:
    """A byte is another one: it is a token still, or refused."""
    raw = bytearray(base64.urlsafe_b64decode(MANY.removeprefix("cashuB")))
    raw[position % len(raw)] = value
    try:
        token = parse_token(wrapped(bytes(raw)), notes_max=20)
    except BadToken:
        return
    assert 1 <= len(token.notes) <= 20


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("mutdipascwesr"), inner, max_size=6),
    max_leaves=12,
)


@given(_JUNK)
@settings(max_examples=300)
def test_junk_structures_are_only_ever_refused(document: Any) -> None:
    """Members of the right names with anything in them."""
    with pytest.raises(BadToken):
        parse_token(wrapped(document), notes_max=20)
