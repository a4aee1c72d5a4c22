"""What L402 and MPP have in common: the words for payments that are taken, and that Lightning is never in doubt."""

from __future__ import annotations

import pytest

from proxy.ledger.payment_api import Lease, PaymentTaken, Proof, Taken, Unit
from proxy.payments.api import Settled
from proxy.payments.l402.rail import L402Rail
from proxy.payments.settings import L402
from tests.support.lightning import HASH, KEYS, MSAT, InvoiceBook, asked, spent_payment

RAIL = L402Rail(L402(), KEYS, InvoiceBook().ledger, leases_max=5)


def taken(why: Taken) -> PaymentTaken:
    return PaymentTaken(why, spent_payment())


@pytest.mark.parametrize(
    ("why", "code", "status", "says"),
    [
        (Taken.SPENT, "invalid_payment", 401, "has already been used"),
        (Taken.RETURNED, "invalid_payment", 401, "already been refunded"),
        (Taken.WORN_OUT, "invalid_payment", 401, "POST /v1/payments/refund"),
        (Taken.BOUND, "invalid_payment", 401, "another request"),
        (Taken.REFUSED, "invalid_payment", 401, "refused"),
        (Taken.UNDER_WAY, "payment_under_way", 409, "being used"),
        (Taken.UNKNOWN, "payment_unknown", 503, "Do not pay again"),
    ],
)
def test_taken_payment_is_never_answered_with_a_new_402(why: Taken, code: str, status: int, says: str) -> None:
    """Each with the payment's id, and when to come back where that helps."""
    refusal = RAIL.taken(taken(why))
    assert (refusal.code, refusal.status) == (code, status)
    assert says in refusal.message
    assert refusal.details == {"payment_id": "pay_" + "0" * 32}
    assert (refusal.retry_after_seconds is not None) == (status in (409, 503))


async def test_lightning_is_never_in_doubt() -> None:
    """Whoever asks, and after any crash: the preimage was the settlement."""
    proof = Proof("lightning", HASH, Unit.MSAT, MSAT, settled=True)
    lease = Lease("pay_1", 1, 1, proof, settled=True)
    for outcome in (await RAIL.settle(lease, asked()), await RAIL.reconcile(lease)):
        assert isinstance(outcome, Settled)
        assert (outcome.receipt.amount, outcome.receipt.reference) == (MSAT, HASH)
    assert await RAIL.served(lease) == ()
