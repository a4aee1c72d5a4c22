"""What is said to who pays from a balance that is not there, or has too little."""

from __future__ import annotations

from typing import Any, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import BalanceState, Unit
from proxy.payments.settings import Payments
from proxy.pricing.money import MSAT_PER_SAT, NANO_PER_USDC, Nano, usd_text

PATH: Final = "/v1/balance"
PRICE_RETRY_SECONDS: Final = 30


def unknown() -> Refusal:
    """401: malformed, never ours, or ended. Which of these is nobody's business."""
    return Refusal(
        "invalid_balance",
        f"This balance token is malformed, unknown or expired. Buy another one: POST {PATH} "
        'with {"sats": 1000}; GET /.well-known/l402 tells how.',
    )


def short(state: BalanceState | None, needed: int, settings: Payments) -> Refusal:
    """402 with what is left, what is needed and how to top up; 401 where there is no such balance (any more)."""
    if state is None or state.left >= needed:  # Enough is left, and yet it was refused: it has ended.
        return unknown()
    left, wanted = text_of(state.left, state.unit), text_of(needed, state.unit, up=True)
    details: dict[str, Any] = {
        "balance": {"unit": unit_of(state.unit), "left": state.left, "needed": needed, "held": state.held},
        "top_up": {"method": "POST", "path": PATH},
    }
    least = "" if settings.balance is None else f", N at least {settings.balance.sats_min}"
    return Refusal(
        "insufficient_balance",
        f"This balance has {left} left and the request can cost up to {wanted}. Nothing was taken. Top it up: "
        f'POST {PATH} with this token and {{"sats": N}}{least}; or ask for fewer max_tokens.',
        details=details,
    )


def no_exchange_rate() -> Refusal:
    """503: nobody knows what a bitcoin costs now."""
    return Refusal(
        "payment_unavailable",
        "The price of bitcoin is not known at the moment, so that nothing can be priced in sats. "
        "Nothing was taken; try again shortly.",
        retry_after_seconds=PRICE_RETRY_SECONDS,
    )


def unit_of(unit: Unit) -> str:
    """The unit's name on the wire: msat | usdc, whose amounts are whole numbers."""
    return unit.value


def text_of(amount: int, unit: Unit, *, up: bool = False) -> str:
    """For people: whole sats, or dollars."""
    if unit is Unit.USDC:
        return f"${usd_text(Nano(amount * NANO_PER_USDC))}"
    return f"{sats_of(amount, up=up)} sats"


def sats_of(msat: int, *, up: bool = False) -> int:
    """Whole sats: what is left is rounded down, what is wanted or spent up."""
    return -(-msat // MSAT_PER_SAT) if up else msat // MSAT_PER_SAT
