"""The 402 that says which cap, how much is left, and when it resets."""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.errors import Refusal
from proxy.ledger.api import CapState
from proxy.pricing.money import usd_text
from proxy.pricing.quote import Quote


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
