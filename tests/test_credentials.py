"""Credentials in every spelling a header may have."""

from __future__ import annotations

from base64 import b64encode

import pytest

from proxy.credentials import token_of


def basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer k", "k"),
        ("bearer   k ", "k"),
        ("k", "k"),
        (" k ", "k"),
        ("", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        (basic("k:"), "k"),
        (basic("k"), "k"),
        (basic(":k"), "k"),
        (basic("k:other"), "k"),
        ("Basic !!!", "!!!"),
        ("Basic", ""),
    ],
)
def test_token_is_found(value: str, token: str) -> None:
    """Bare, behind a scheme, as Basic's user or password; what cannot be read stays as it is."""
    assert token_of(value) == token
