"""Whose failing transfers our signer pays the gas of, and how many of them."""

from __future__ import annotations

from proxy.payments.x402 import reverts
from proxy.payments.x402.reverts import PAYERS_MAX, REVERTS_MAX, REVERTS_SECONDS, Reverts


def test_payer_of_many_failures_waits_an_hour() -> None:
    """From the first of them; others pay as ever."""
    own = Reverts()
    for at in range(REVERTS_MAX):
        assert not own.too_many("payer", at)
        own.note("payer", at)
    assert own.too_many("payer", REVERTS_MAX)
    assert not own.too_many("other", REVERTS_MAX)
    assert own.too_many("payer", REVERTS_SECONDS - 1)
    assert not own.too_many("payer", REVERTS_SECONDS)


def test_failures_are_counted_anew_after_an_hour() -> None:
    """One a day is nobody's attack."""
    own = Reverts()
    for day in range(10):
        own.note("payer", day * 86_400)
        assert not own.too_many("payer", day * 86_400)


def test_memory_of_payers_is_bounded() -> None:
    """The longest known goes first."""
    own = Reverts()
    for number in range(PAYERS_MAX + 5):
        own.note(str(number), 0)
    assert len(own._since) == reverts.PAYERS_MAX
    assert "4" not in own._since
