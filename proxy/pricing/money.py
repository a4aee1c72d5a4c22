"""Money as integers with a unit. No float and no bare int for money crosses a function boundary."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NewType

Nano = NewType("Nano", int)
"""USD in nano-dollars: 1 USD = 10^9. The ledger's only unit of dollars."""

NANO_PER_USD: Final = 1_000_000_000
NANO_PER_USDC: Final = 1_000
"""In a millionth of a dollar, the unit of USDC."""
MSAT_PER_SAT: Final = 1_000
MSAT_PER_BTC: Final = 100_000_000_000
ZERO: Final = Nano(0)


def nano_from_usd(usd: Decimal | str | int) -> Nano:
    """Exact conversion of a decimal amount of dollars. Raises ValueError past nine decimals or for a float."""
    if isinstance(usd, float):
        raise ValueError("money is never a float: quote the amount in the file")
    scaled = Decimal(usd) * NANO_PER_USD
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{usd} USD has more than nine decimals")
    return Nano(int(scaled))


def usd_text(nano: Nano, *, places: int | None = None) -> str:
    """Dollars as text: exact with trailing zeros cut (at least two decimals), or rounded half-up to `places`."""
    value = Decimal(nano) / NANO_PER_USD
    if places is not None:
        return f"{value:.{places}f}"
    text = f"{value:.9f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"
