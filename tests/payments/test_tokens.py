"""Tokens of balances: derived, shaped, never kept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.payments.keys import DerivedKeys
from proxy.payments.tokens import digest_of, is_token, poll_secret_of, token_for

KEYS = DerivedKeys(b"k" * 32)


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_token_is_that_of_its_payment_alone(one: str, other: str) -> None:
    """Always the same for one payment, another for another, in the shape that clients check."""
    token = token_for(KEYS, one)
    assert token == token_for(KEYS, one)
    assert (token == token_for(KEYS, other)) == (one == other)
    assert token != token_for(DerivedKeys(b"q" * 32), one)
    assert re.fullmatch(r"bal_[A-Za-z0-9_-]{43}", token)
    assert is_token(token)
    assert len(digest_of(token)) == 32


@pytest.mark.parametrize(
    "text",
    [
        "", "bal_", "bal_" + "A" * 42, "bal_" + "A" * 44, "BAL_" + "A" * 43, "bal_" + "A" * 42 + "=",
        "bal_" + "A" * 42 + "+", "bal_" + "A" * 43 + "\n", "bal_" + "A" * 42 + "B", "lld_" + "A" * 43,
        "bal_" + "\u0661" * 43,
    ],
)  # fmt: skip
def test_what_has_another_shape_is_no_token(text: str) -> None:
    """Nothing is looked up for it; the last character has one spelling only."""
    assert not is_token(text)


@given(st.binary(min_size=32, max_size=32))
def test_a_poll_secret_is_32_bytes_as_text(raw: bytes) -> None:
    """As many characters whatever they are."""
    assert len(poll_secret_of(raw)) == 43
    assert is_token("bal_" + poll_secret_of(raw))
