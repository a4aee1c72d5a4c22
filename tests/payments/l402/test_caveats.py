"""Caveats: the public spelling, and nothing but what is known, once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.payments.l402.caveats import BadCaveat, Caveats, parse_caveats
from proxy.payments.l402.terms import Limits

LIMITS = Limits("/v1/chat/completions", "gpt-4o", 50, 60, 12, None)
CAVEATS = Caveats(LIMITS, 1_700_000_300, 1_690_000_000)
RAW = CAVEATS.encode()


def test_caveats_are_spelled_as_published() -> None:
    """`Key = value`, numbers in decimal, times in unix seconds."""
    assert RAW == (
        b"RequestPath = /v1/chat/completions",
        b"ExpiresAt = 1700000300",
        b"MaxTokens = 50",
        b"MaxInputChars = 60",
        b"MaxInputTokens = 12",
        b"NotBefore = 1690000000",
        b"Model = gpt-4o",
    )
    embeddings = Caveats(Limits("/v1/embeddings", "e", 0, 60, 12, 5), 1, 0)
    assert b"MaxInputItems = 5" in embeddings.encode()
    for caveats in (CAVEATS, embeddings):
        assert parse_caveats(caveats.encode()) == caveats


@pytest.mark.parametrize(
    ("added", "why"),
    [
        (b"MaxTokens = 10", "twice"),
        (b"MaxTokens = 100000", "twice"),
        (b"Model = gpt-4o", "twice"),
        (b"Colour = red", "not known"),
        (b"maxtokens = 1", "not known"),
        (b"max_tokens = 1", "form"),
        (b"MaxInputItems = -1", "not a number"),
        (b"MaxInputItems = 1.0", "not a number"),
        (b"MaxInputItems = 01", "not a number"),
        (b"MaxInputItems = 99999999999999999", "not a number"),
        ("MaxInputItems = ١".encode(), "not a number"),
        (b"MaxInputItems=1", "form"),
        (b"MaxInputItems = ", "form"),
        (b" MaxInputItems = 1", "form"),
        (b"Note = a\nMaxTokens = 1", "form"),
        (b"\xff = \xff", "form"),
        (b"", "form"),
    ],
)
def test_added_caveat_is_refused_unless_known_and_new(added: bytes, why: str) -> None:
    """Even one that narrows: what is there twice could be read in two ways."""
    with pytest.raises(BadCaveat, match=why):
        parse_caveats((*RAW, added))


def test_known_caveat_may_be_added_once() -> None:
    """It narrows."""
    assert parse_caveats((*RAW, b"MaxInputItems = 3")).limits.input_items == 3


@pytest.mark.parametrize("index", range(len(RAW)))
def test_missing_caveat_is_refused(index: int) -> None:
    """A signed macaroon of another make restricts nothing."""
    with pytest.raises(BadCaveat, match="missing"):
        parse_caveats(RAW[:index] + RAW[index + 1 :])


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(RAW)), max_size=10))
def test_no_caveats_are_a_fault(raw: list[bytes]) -> None:
    """Parsed, or BadCaveat."""
    try:
        parse_caveats(tuple(raw))
    except BadCaveat:
        return
