"""Ecash, invoices and paid answers, as the ledger keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_api import Invoice, PaymentTaken, Receipt, StoredAnswer, TooManyInvoices
from proxy.ledger.payment_expiry import UNCLAIMED_MS
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import bought, dispatched, ecash, new_balance, notes, opened, proof, rows, settlement


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    """Closed with clean books."""
    ledger = opened(tmp_path / "tollway.db")
    yield ledger
    assert await ledger.audit() == []
    await ledger.close()


async def test_the_wallet_is_what_burnt_payments_brought(ledger: SqliteLedger) -> None:
    """By mint; what was exported is ours no longer, and no note is exported twice."""
    here, there = notes(8, 2), tuple(replace(note, mint="https://other.test") for note in notes(10))
    for brought in (here, there):
        lease = await ledger.lease(ecash(amount=10_000), "top-up")
        await ledger.payment_settled(lease, Receipt(10_000, ecash=brought))
        assert not set(brought) & set(await ledger.wallet())
        await ledger.fund(lease, new_balance())
    assert set(await ledger.wallet()) == {*here, *there}
    assert await ledger.wallet("https://other.test") == there
    await ledger.export((here[0].secret, here[0].secret))
    assert set(await ledger.wallet()) == {here[1], *there}
    with pytest.raises(LedgerError):
        await ledger.export((here[1].secret, here[0].secret))
    assert here[1] in await ledger.wallet()
    await ledger.export(())


async def test_notes_are_kept_as_they_came(ledger: SqliteLedger) -> None:
    """Keyset, signature and proof of it."""
    (note,) = notes(10)
    whole = replace(note, dleq='{"e":"1","s":"2","r":"3"}')
    lease = await ledger.lease(ecash(amount=10_000), "top-up")
    await ledger.payment_settled(lease, Receipt(10_000, ecash=(whole,)))
    assert await ledger.ecash_of(lease.row, kept=True) == (whole,)
    assert await ledger.ecash_of(lease.row, kept=None) == ()
    ledger.unlease(lease, reason="no balance was wanted")
    assert await ledger.ecash_of(lease.row, kept=None) == (whole,)


def invoice(name: str = "", client: str = "192.0.2.1", **changes: Any) -> Invoice:
    fields: dict[str, Any] = {
        "payment_hash": name.rjust(64, "0"),
        "bolt11": "lnbc1",
        "msat": 21_000,
        "purpose": "request",
        "client": client,
        "created_ms": 1_000,
        "expires_ms": 301_000,
        "backend": "dev",
        "terms": '{"model": "gpt-4o"}',
        "poll_digest": b"d" * 32,
    }
    return Invoice(**{**fields, **changes})


async def test_an_invoice_is_given_back_as_it_was(ledger: SqliteLedger) -> None:
    """With when it was first seen paid."""
    made = invoice("a")
    await ledger.add_invoice(made, pending_max=10, pending_client_max=10)
    assert await ledger.invoice(made.payment_hash) == made
    assert await ledger.invoice("b" * 64) is None
    await ledger.invoice_settled(made.payment_hash, 2_000)
    await ledger.invoice_settled(made.payment_hash, 3_000)
    assert await ledger.invoice(made.payment_hash) == replace(made, settled_ms=2_000)


async def test_waiting_invoices_are_counted_by_client_and_in_all(ledger: SqliteLedger) -> None:
    """Neither paid ones nor those that ended count."""
    limits = {"pending_max": 3, "pending_client_max": 2}
    for name in ("1", "2"):
        await ledger.add_invoice(invoice(name), **limits)
    with pytest.raises(TooManyInvoices) as own:
        await ledger.add_invoice(invoice("3"), **limits)
    assert (own.value.own, own.value.limit) == (True, 2)
    await ledger.add_invoice(invoice("3", "192.0.2.2"), **limits)
    with pytest.raises(TooManyInvoices) as all_:
        await ledger.add_invoice(invoice("4", "192.0.2.2"), **limits)
    assert (all_.value.own, all_.value.limit) == (False, 3)
    await ledger.invoice_settled("1".rjust(64, "0"), 2_000)
    await ledger.add_invoice(invoice("4"), **limits)
    later = {"created_ms": 301_000, "expires_ms": 601_000}
    await ledger.add_invoice(invoice("5", **later), **limits)


async def test_an_invoice_whose_preimage_is_shown_waits_no_more(ledger: SqliteLedger) -> None:
    """Who pays quickly is not locked out by invoices that are paid."""
    made = invoice("a")
    await ledger.add_invoice(made, pending_max=10, pending_client_max=1)
    await ledger.hold(bought(proof(made.payment_hash)))
    kept = await ledger.invoice(made.payment_hash)
    assert kept is not None
    assert kept.settled_ms is not None
    await ledger.add_invoice(invoice("b"), pending_max=10, pending_client_max=1)


@pytest.mark.parametrize("change", [{"msat": 0}, {"msat": -1}, {"terms": "x" * 20_000}])
async def test_an_impossible_invoice_is_refused(ledger: SqliteLedger, change: dict[str, Any]) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match="amount"):
        await ledger.add_invoice(invoice("a", **change), pending_max=10, pending_client_max=10)


async def test_unpaid_invoices_are_forgotten_after_a_year(ledger: SqliteLedger) -> None:
    """Paid ones are not."""
    for name in ("a", "b"):
        await ledger.add_invoice(invoice(name), pending_max=10, pending_client_max=10)
    await ledger.invoice_settled("a".rjust(64, "0"), 2_000)
    await ledger.expire_payments(301_000 + UNCLAIMED_MS)
    assert rows(ledger.path, "SELECT count(*) FROM invoices") == [(2,)]
    await ledger.expire_payments(301_001 + UNCLAIMED_MS)
    assert rows(ledger.path, "SELECT settled_ms FROM invoices") == [(2_000,)]


async def test_answers_are_kept_for_a_while(ledger: SqliteLedger) -> None:
    """Then the payment is spent, and what it bought is gone."""
    shown = [proof(), proof()]
    for at_ms, one in zip((100, 200), shown, strict=True):
        hold, attempt = await dispatched(ledger, bought(one))
        await ledger.commit(hold, StoredAnswer("request", 200, (), b"answer", at_ms))
        ledger.settle(hold, settlement(60, attempt))
    assert await ledger.prune_answers(200) == 1
    found = []
    for one in shown:
        with pytest.raises(PaymentTaken) as taken:
            await ledger.hold(bought(one))
        found.append(taken.value.answer)
    assert found == [None, StoredAnswer("request", 200, (), b"answer", 200)]
