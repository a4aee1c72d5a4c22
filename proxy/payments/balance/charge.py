"""What one answer takes from a prepaid balance: dollars turned into its unit, pure."""

from __future__ import annotations

from typing import Final

from proxy.ledger.payment_api import Unit
from proxy.payments.settings import Payments
from proxy.pricing.money import MSAT_PER_BTC, MSAT_PER_SAT, NANO_PER_USDC, Nano

USDC_MIN: Final = 1000
"""Floor of a charge to a balance of USDC where no x402 rail sets one."""


def amount_of(usd: Nano, unit: Unit, nano_per_btc: int | None) -> int | None:
    """Dollars in `unit`, rounded up; None where bitcoin is meant and nobody knows its price."""
    if unit is Unit.USDC:
        return -(-usd // NANO_PER_USDC)
    if not nano_per_btc:
        return None
    return -(-usd * MSAT_PER_BTC // nano_per_btc)


def usd_of(msat: int, nano_per_btc: int) -> Nano:
    """What so many thousandths of a satoshi are worth, rounded up."""
    return Nano(-(-msat * nano_per_btc // MSAT_PER_BTC))


def floor_of(unit: Unit, settings: Payments) -> int:
    """Least that one answer costs, in `unit`."""
    if unit is Unit.USDC:
        return USDC_MIN if settings.x402 is None else settings.x402.usdc_min
    return 0 if settings.balance is None else settings.balance.charge_sats_min * MSAT_PER_SAT


def charge_of(usd: Nano, unit: Unit, nano_per_btc: int | None, settings: Payments, held: int) -> int:
    """What an answer that went out takes from its balance, in `unit`: rounded up, at least the floor, never more than
    was held.

    `usd` is what it cost with all surcharges, `nano_per_btc` the exchange rate of its quote. Without one, which no
    hold in sats is made without, it is all that was held.
    """
    amount = amount_of(usd, unit, nano_per_btc)
    return held if amount is None else min(max(amount, floor_of(unit, settings)), held)
