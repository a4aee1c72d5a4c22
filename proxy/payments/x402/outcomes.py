"""What settling came to, in the words of rails: made in one place, so that the same finding is always told the same."""

from __future__ import annotations

from typing import Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import Receipt
from proxy.payments.api import Declined, Doubtful, Outcome, Settled
from proxy.payments.x402.fates import Fate, Found
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.responses import INVALID_SIGNATURE, NONCE_USED, TRANSACTION_FAILED, plain, settlement_failed

RETRY_SECONDS: Final = 10.0
EXPIRED: Final = "invalid_exact_evm_payload_authorization_valid_before"
BALANCE: Final = "invalid_exact_evm_insufficient_balance"
UNDEPLOYED: Final = "invalid_exact_evm_payload_undeployed_smart_wallet"
FACTORY: Final = "eip6492_factory_not_allowed"
NO_CONTRACT: Final = "asset_not_deployed_contract"
FINAL: Final = frozenset({
    NONCE_USED,
    INVALID_SIGNATURE,
    EXPIRED,
    FACTORY,
    "invalid_exact_evm_payload_recipient_mismatch",
    "invalid_exact_evm_payload_authorization_value_mismatch",
})  # fmt: skip
"""Reasons that no time mends. A balance can be filled, a wallet be deployed, a network come back."""


def settled(authorization: Authorization, transaction: str) -> Settled:
    """The money is ours by this transaction."""
    return Settled(Receipt(amount=authorization.value, reference=transaction))


def declined(reason: str) -> Declined:
    """Nothing was taken, for a reason of the specification's; final where no time mends it."""
    return Declined(settlement_failed(reason), plain(reason), final=reason in FINAL)


def unavailable(words: str) -> Declined:
    """Nothing was taken, and the payer is not to blame. `words` are for the operator."""
    refusal = Refusal(
        "payment_unavailable",
        "Payments on this network cannot be settled now. Nothing was taken: send the same request and payment again.",
        retry_after_seconds=RETRY_SECONDS,
    )
    return Declined(refusal, words, final=False)


def outcome_of(found: Found, authorization: Authorization) -> Outcome:
    """What became of it, where it may have been tried: OPEN and UNCLEAR are doubts, for it may yet be used."""
    match found.fate:
        case Fate.PAID:
            return settled(authorization, found.transaction)
        case Fate.EXPIRED:
            return Declined(settlement_failed(EXPIRED), EXPIRED, final=True)
        case Fate.ELSEWHERE | Fate.CANCELLED:
            return Declined(settlement_failed(NONCE_USED), NONCE_USED, final=True)
        case Fate.OPEN | Fate.UNCLEAR:
            return Doubtful(f"{found.transaction} {found.words}".lstrip())


def reverted(found: Found, authorization: Authorization) -> Outcome:
    """The same where our own transaction landed and did nothing: unused then means that nothing was taken."""
    if found.fate is Fate.OPEN:
        return Declined(settlement_failed(TRANSACTION_FAILED), TRANSACTION_FAILED, final=False)
    return outcome_of(found, authorization)
