"""Amounts are told exactly, and a limit is a limit in its own unit."""

from __future__ import annotations

import pytest

from proxy.ledger.payment_api import Unit
from proxy.payments.client.amounts import Amount, SpendLimits
from proxy.payments.client.errors import OverLimit, PayError
from proxy.payments.client.payer import price_of


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.MSAT, 21_000, "21 sats"),
        (Unit.MSAT, 21_001, "21.001 sats"),
        (Unit.USDC, 305, "$0.000305"),
        (Unit.USDC, 1_500_000, "$1.50"),
        (Unit.USDC, 0, "$0.00"),
    ],
)
def test_an_amount_is_told_without_rounding(unit: Unit, value: int, text: str) -> None:
    """Down to the last part."""
    assert str(Amount(unit, value)) == text


def test_the_limit_itself_may_be_spent_and_no_more() -> None:
    """Each unit by itself: nothing is converted."""
    limits = SpendLimits(msat=21_000, usdc=0)
    limits.check(Amount.sats(21), "It costs")
    for over in (Amount(Unit.MSAT, 21_001), Amount(Unit.USDC, 1)):
        with pytest.raises(OverLimit, match="Nothing was paid"):
            limits.check(over, "It costs")


def test_an_estimate_is_in_sats_or_dollars_rounded_up() -> None:
    """What says neither is not spent on."""
    assert price_of({"costSats": 21, "costUsd": 5}) == Amount.sats(21)
    assert price_of({"costSats": None, "costUsd": 0.0000001}) == Amount(Unit.USDC, 1)
    for wrong in (
        {},
        {"costUsd": "free"},
        {"costUsd": "NaN"},
        {"costUsd": "1e999999"},
        {"costUsd": -1},
        {"costSats": -1},
    ):
        with pytest.raises(PayError):
            price_of(wrong)
