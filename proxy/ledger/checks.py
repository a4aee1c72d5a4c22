"""What the ledger is asked to write, judged before anything is."""

from __future__ import annotations

from typing import Final

from proxy.errors import Refusal
from proxy.ledger.api import Grant, HoldRequest, Settlement
from proxy.ledger.errors import AMOUNT_NANO_MAX, GrantConflict, GrantTooLarge
from proxy.ledger.payment_checks import check_tender

GRANT_ID_CHARACTERS_MAX: Final = 128
NOTE_CHARACTERS_MAX: Final = 500
_SCOPES: Final = ("organisation", "team", "user", "key")
_WALLETS: Final = ("balance", "frontier")


def check_request(request: HoldRequest) -> None:
    """Raises ValueError, and Refusal `unbounded_cost` for what no row or cap can count."""
    if request.tender is not None:
        check_tender(request.tender)
    if request.charged < 0 or (request.list is not None and request.list < 0):
        raise ValueError("a hold is zero or more")
    if not 0 <= request.input_charged <= request.charged:
        raise ValueError("what is held for the input is a part of what is charged")
    if request.owed is not None and not request.input_charged <= request.owed <= request.charged:
        raise ValueError("what is owed of a fixed price is a part of what is charged, and the input a part of it")
    if max(request.charged, request.list or 0) > AMOUNT_NANO_MAX:
        raise Refusal(
            "unbounded_cost", "This request could cost more than the ledger can hold. Lower its output limit."
        )
    if request.list is None and any(cap.basis.value == "list" for cap in request.caps):
        raise Refusal(
            "unbounded_cost",
            f"A cap here counts list cost and the model '{request.model}' has no list price. Use a priced model.",
        )


def is_possible(settlement: Settlement) -> bool:
    """Whether all its amounts can be counted."""
    amounts = (settlement.charged, settlement.list or 0, settlement.paid or 0, settlement.tendered)
    return min(amounts) >= 0 and max(amounts) <= AMOUNT_NANO_MAX


def check_grant(grant: Grant) -> None:
    """Raises Refusal `invalid_request`."""
    if not grant.amount or abs(grant.amount) > AMOUNT_NANO_MAX:
        raise Refusal("invalid_request", "An amount is not 0 and at most 1000000000 USD.", param="usd")
    if not (grant.id.isprintable() and 1 <= len(grant.id) <= GRANT_ID_CHARACTERS_MAX):
        raise Refusal("invalid_request", f"An id is 1 to {GRANT_ID_CHARACTERS_MAX} printable characters.", param="id")
    if len(grant.note) > NOTE_CHARACTERS_MAX or not grant.note.isprintable():
        raise Refusal(
            "invalid_request", f"A note is printable, of at most {NOTE_CHARACTERS_MAX} characters.", param="note"
        )
    if grant.purse.scope not in _SCOPES or grant.purse.wallet not in _WALLETS or not grant.purse.scope_id:
        raise Refusal("invalid_request", "A purse is an organisation's, team's, user's or key's.", param="scope")


def refused_grant(error: GrantConflict | GrantTooLarge) -> Refusal:
    """What a caller is told; nothing was granted."""
    if isinstance(error, GrantConflict):
        return Refusal("conflict", f"{error}, so nothing was granted. Take another id.", param="id")
    return Refusal("invalid_request", f"{error}, so nothing was granted.", param="usd")
