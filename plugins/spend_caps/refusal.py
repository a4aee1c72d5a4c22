"""The 402 that says which cap or purse, how much is left, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.errors import Refusal
from proxy.ledger.api import CapState, PurseState
from proxy.pricing.money import usd_text
from proxy.pricing.quote import Quote

_PURSES = {"balance": "prepaid balance", "frontier": "Frontier Credits"}


def exhausted(states: tuple[CapState, ...], quote: Quote) -> Refusal:
    """402 `quota_exhausted` for the tightest of `states`; `details.cap` has the same in machine form."""
    state = states[0]
    cap = state.cap
    needed = quote.list if cap.basis.value == "list" and quote.list is not None else quote.charged
    resets = "" if not cap.end_ms else datetime.fromtimestamp(cap.end_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    when = f"it resets at {resets}" if resets else "it never resets"
    return Refusal(
        "quota_exhausted",
        f"The {cap.window} cap of {cap.scope} '{cap.scope_id}' has {usd_text(state.left)} USD left of "
        f"{usd_text(cap.limit)}, and this request may cost up to {usd_text(needed)}; {when}. "
        "Ask for a smaller max_tokens, wait, or have the cap raised.",
        details={
            "cap": {
                "scope": cap.scope,
                "id": cap.scope_id,
                "window": cap.window,
                "counts": cap.basis.value,
                "limit_usd": usd_text(cap.limit),
                "left_usd": usd_text(state.left),
                "needed_usd": usd_text(needed),
                "resets_at": resets or None,
            }
        },
    )


def empty(state: PurseState, quote: Quote) -> Refusal:
    """402 `quota_exhausted` for a purse that cannot pay; `details.balance` has the same in machine form."""
    purse = state.purse
    have = "have" if purse.wallet == "frontier" else "has"
    return Refusal(
        "quota_exhausted",
        f"The {_PURSES[purse.wallet]} of {purse.scope} '{purse.scope_id}' {have} {usd_text(state.left)} USD left, and "
        f"this request may cost up to {usd_text(quote.charged)} USD. Top up the balance, or ask for a smaller "
        "max_tokens.",
        details={
            "balance": {
                "scope": purse.scope,
                "id": purse.scope_id,
                "wallet": purse.wallet,
                "left_usd": usd_text(state.left),
                "held_usd": usd_text(state.held),
                "needed_usd": usd_text(quote.charged),
            }
        },
    )
