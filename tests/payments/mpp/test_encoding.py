"""JSON in headers: canonical on the way out, one spelling on the way in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.payments.mpp.encoding import decode, encode


def test_members_are_sorted_and_unpadded() -> None:
    """RFC 8785, then RFC 4648 section 5 without padding."""
    assert encode({"currency": "sat", "amount": "100"}) == "eyJhbW91bnQiOiIxMDAiLCJjdXJyZW5jeSI6InNhdCJ9"


VALUES = st.recursive(st.text(max_size=20) | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3))


@given(st.dictionaries(st.text(st.characters(codec="ascii"), max_size=8), VALUES, max_size=5))
def test_what_is_written_is_read(content: dict[str, object]) -> None:
    """Padded or not."""
    text = encode(content)
    assert decode(text) == content
    assert decode(text + "=" * (-len(text) % 4)) == content


@pytest.mark.parametrize(
    "text",
    [
        "",
        "e30\n",
        "e3 0",
        "e31",
        "e30==",
        "e30===",
        "=e30",
        "e3+/",
        "W10",
        "MQ",
        "bnVsbA",
        "e29vcHN9",
        "é",
        "e",
        "eyJhIjoxfQ=e",
    ],
)
def test_other_spellings_and_other_json_are_refused(text: str) -> None:
    """Stray bits, wrong padding, the standard alphabet, what is no object."""
    with pytest.raises(ValueError, match=r".*"):
        decode(text)


@given(st.text(max_size=60))
def test_no_text_is_a_fault(text: str) -> None:
    """An object, or ValueError."""
    try:
        assert isinstance(decode(text), dict)
    except ValueError:
        return
