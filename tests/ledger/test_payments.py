"""Proofs of payment: leased with the hold, burnt with the answer, else free again or given back."""

from __future__ import annotations

from pathlib import Path

from proxy.ledger.payment_api import StoredAnswer
from proxy.ledger.payment_states import PaymentState
from tests.ledger.making import bought, dispatched, drawing, funded, opened, proof, settlement


async def test_smoke(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "tollway.db")
    shown = proof()
    hold, attempt = await dispatched(ledger, bought(shown))
    assert hold.lease is not None and hold.lease.settled and hold.lease.receipt is not None
    await ledger.commit(hold, StoredAnswer("request", 200, (("a", "b"),), b"hello"))
    ledger.settle(hold, settlement(60, attempt))
    payment = await ledger.payment("lightning", shown.key)
    assert payment is not None
    assert (payment.state, payment.captured, payment.leased) == (PaymentState.BURNT, 21_000, False)
    digest = await funded(ledger, 50_000)
    hold, attempt = await dispatched(ledger, drawing(digest, 30_000))
    state = await ledger.balance(digest)
    assert state is not None and state.left == 20_000
    ledger.settle(hold, settlement(60, attempt, tendered=7_000))
    state = await ledger.balance(digest)
    assert state is not None and state.left == 43_000
    assert await ledger.audit() == []
    await ledger.close()
