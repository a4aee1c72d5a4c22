"""Caps as an operator types them."""

from __future__ import annotations

import pytest

from proxy.caps import cap_text, parse_cap
from proxy.identities import CapSetting

USD = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5/day", CapSetting(5 * USD, "day", "charged")),
        ("$0.25/hour", CapSetting(USD // 4, "hour", "charged")),
        ("100/month:list", CapSetting(100 * USD, "month", "list")),
        ("1/total:clamp", CapSetting(USD, "total", "charged", None, clamp=True)),
        ("20/day:soft=80:list:clamp", CapSetting(20 * USD, "day", "list", 80, clamp=True)),
        ("0/day", CapSetting(0, "day", "charged")),
        ("0.000000001/day", CapSetting(1, "day", "charged")),
    ],
)
def test_a_cap_is_read_and_written_back(text: str, expected: CapSetting) -> None:
    """What `cap_text` writes, `parse_cap` reads as the same cap."""
    assert parse_cap(text) == expected
    assert parse_cap(cap_text(expected)) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("5", "USD/WINDOW"),
        ("5/week", "hour, day, month, total"),
        ("five/day", "an amount of dollars"),
        ("/day", "an amount of dollars"),
        ("-5/day", "between 0 and"),
        ("NaN/day", "between 0 and"),
        ("1e30/day", "between 0 and"),
        ("0.0000000001/day", "nine decimals"),
        ("5/day:hard", "'hard'"),
        ("5/day:soft=0", "percentage"),
        ("5/day:soft=101", "percentage"),
        ("5/day:soft=x", "percentage"),
        ("5/day:", "''"),
    ],
)
def test_a_wrong_cap_says_what_to_write(text: str, problem: str) -> None:
    """Every mistake names itself."""
    with pytest.raises(ValueError, match=problem):
        parse_cap(text)
