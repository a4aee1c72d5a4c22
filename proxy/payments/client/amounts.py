"""Amounts a payer deals with, and the most that may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.ledger.payment_api import Unit
from proxy.payments.client.errors import OverLimit
from proxy.pricing.money import MSAT_PER_SAT

USDC_PER_USD: Final = 1_000_000
DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Amount:
    """Whole parts of a unit: thousandths of a satoshi, or millionths of a dollar."""

    unit: Unit
    value: int

    @classmethod
    def sats(cls, sats: int) -> Amount:
        return cls(Unit.MSAT, sats * MSAT_PER_SAT)

    def __str__(self) -> str:
        if self.unit is Unit.MSAT:
            whole, rest = divmod(self.value, MSAT_PER_SAT)
            return f"{whole} sats" if not rest else f"{whole}.{rest:03} sats"
        whole, rest = divmod(self.value, USDC_PER_USD)
        text = f"{rest:0{DIGITS}}".rstrip("0").ljust(2, "0")
        return f"${whole}.{text}"

    def plain(self) -> dict[str, int | str]:
        """For programs."""
        return {"unit": self.unit.value, "amount": self.value, "text": str(self)}


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """The most that one payment may take, in each unit. Nothing is converted: no server's exchange rate is believed."""

    msat: int
    usdc: int

    def check(self, amount: Amount, what: str) -> None:
        """Raises OverLimit."""
        limit = Amount(amount.unit, self.msat if amount.unit is Unit.MSAT else self.usdc)
        if amount.value > limit.value:
            option = "--max-sats" if amount.unit is Unit.MSAT else "--max-usd"
            raise OverLimit(f"{what} {amount}, and at most {limit} may be spent. Nothing was paid. Allow it: {option}")
