"""The audit finds every fault planted in payments, balances, ecash and invoices; and sums up each unit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger.audit_payments import UnitSums, unit_sums
from proxy.ledger.payment_api import BalanceKind, Invoice, Receipt, StoredAnswer
from proxy.ledger.schema import connect
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    BERLIN,
    DAY_MS,
    bought,
    change,
    crash,
    dispatched,
    drawing,
    ecash,
    leased,
    new_balance,
    notes,
    opened,
    proof,
    settlement,
    unsettled,
)
from tests.support.fakes import FakeClock

SUM = "a payment is the sum of what became of it"
TRANSFERS = "a payment has its transfers"
ENDS = "a transfer of a payment goes between the accounts of its kind"
NOTHING = "what was not settled brought nothing"
FINAL = "what is final holds nothing"
UNSPENT = "what is settled has not been spent"
BOUGHT = "what was given back bought nothing"
HANDS = "a payment is in one pair of hands"
HOLD = "a payment is leased by an open hold"
ONCE = "a payment buys once"
PUT_ON = "what a payment was put on is there"
ONE = "a proof is one payment"
TENDER = "the tender of a hold is there"
AT_MOST = "a balance pays at most what was held"
CRASHED = "a balance pays for the input of what a crash left"
PAID = "a hold has its balance's payment"
DEPOSITED = "a balance was deposited what payments credited"
HOLDS = "a balance holds the sum of its open holds"
SPENT = "a balance has spent what it paid for holds"
BELOW = "no balance is below zero"
ACCOUNT = "a balance's account holds what is left of it"
FOLDED = "a balance has its pruned payments"
END = "a balance has its end"
OUTSIDE = "what came from outside is what payments brought"
INCOME = "what is income was captured"
ALL = "all that was paid is accounted for"
OWNER = "ecash is whose its payment says"
WORTH = "the ecash of a payment is what it brought"
GIVEN = "what was given back was ecash"
ANSWER = "an answer that is kept was paid for"
TOPS_UP = "an invoice tops up a balance that is there"
WAITS = "an invoice that was paid waits no more"
DEAD = "no payment is leased by a dead process"
ORIGIN = "a transfer comes from what can move money"
INTACT = "the file is intact"
BOOKS = "the accounts of a book sum to zero"


async def balances(ledger: SqliteLedger) -> None:
    """Balance 1: topped up by payments 1 and 2; holds 1 (pruned), 2, 3 (crashed); balance 2: a refund, ended."""
    lease = await ledger.lease(proof("a" * 64, amount=50_000), "top-up")
    state = await ledger.fund(lease, new_balance("one"))
    await ledger.fund(await ledger.lease(proof("b" * 64, amount=5_000), "top-up"), state.row)
    lease = await ledger.lease(proof("c" * 64, amount=9_000), "refund")
    await ledger.refund(lease, new_balance("two", kind=BalanceKind.REFUND, life_ms=DAY_MS))
    await ledger.expire_payments(1_700_000_000_000 + DAY_MS)
    digest = new_balance("one").digest
    for at_ms, paid in ((10, 7_000), (2_000, 3_000)):
        hold, attempt = await dispatched(ledger, drawing(digest, 10_000, at_ms=at_ms))
        ledger.settle(hold, settlement(60, attempt, tendered=paid))
    await dispatched(ledger, drawing(digest, 20_000))
    made = Invoice("c" * 64, "lnbc1", 9_000, "balance", "192.0.2.1", 1_000, 2_000, "dev", "1", settled_ms=1_500)
    await ledger.add_invoice(made, pending_max=9, pending_client_max=9)


async def payments(ledger: SqliteLedger) -> None:
    """Payments 4 burnt with change, fee and answer (hold 4), 5 returned, 6 refused, 7 unknown, 8 expired."""
    hold, attempt = await dispatched(ledger, bought(ecash()))
    received = Receipt(30_000, 1_000, 6_000, 2_000, ecash=notes(16, 4, 3) + notes(change=(4, 2)))
    await ledger.payment_settled(leased(hold), received)
    await ledger.commit(hold, StoredAnswer("request", 200, (), b"answer"))
    ledger.settle(hold, settlement(60, attempt))
    hold = await ledger.hold(bought(ecash(amount=8_000)))
    await ledger.payment_settled(leased(hold), Receipt(8_000, ecash=notes(8)))
    ledger.release(hold, reason="upstream failed", at_ms=3)
    for word in ("payment_refused", "payment_unknown"):
        hold = await ledger.hold(bought(unsettled()))
        await getattr(ledger, word)(leased(hold), "so it is")
        ledger.release(hold, reason="payment", at_ms=3)
    ledger.release(await ledger.hold(bought(proof(amount=4_000))), reason="upstream failed", at_ms=3)
    await ledger.expire_payments(366 * DAY_MS)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    """As above; then payments 9 settled and free, 10 leased by hold 10, 11 settled and leased by hold 11."""
    path = tmp_path / "tollway.db"
    clock = FakeClock()
    before = opened(path, clock)
    await balances(before)
    await payments(before)
    await before.flush()
    crash(before)
    ledger = opened(path, clock)
    hold = await ledger.hold(bought(unsettled(amount=2_000)))
    await ledger.payment_settled(leased(hold), Receipt(2_000))
    ledger.release(hold, reason="upstream failed", at_ms=400 * DAY_MS)
    await ledger.hold(bought(unsettled()))
    hold = await ledger.hold(bought(unsettled(amount=3_000)))
    await ledger.payment_settled(leased(hold), Receipt(3_000))
    await ledger.hold(drawing(new_balance("one").digest, 1_000))
    assert await ledger.prune(500, BERLIN) == 1
    yield ledger
    await ledger.close()


async def rules(ledger: SqliteLedger) -> set[str]:
    return {finding.rule for finding in await ledger.audit()}


async def test_clean_books_have_no_finding(ledger: SqliteLedger) -> None:
    """Whatever became of a payment or a balance."""
    assert await ledger.audit() == []


async def test_every_unit_is_summed_up(ledger: SqliteLedger) -> None:
    """Deposits are the sum of what became of them, in each unit's own book."""
    await ledger.flush()
    with closing(connect(ledger.path, create=False)) as connection:
        msat, usdc = unit_sums(connection)
    assert msat == UnitSums(
        "msat",
        deposits=106_000,
        captured=7_000 + 3_000 + 2_000 + 21_000,
        refundable=55_000 - 12_000 - 1_000,
        held=1_000,
        change=6_000,
        fees=1_000,
        absorbed=2_000,
        expired=9_000 + 4_000,
        returned=8_000,
    )
    assert (usdc.deposits, usdc.refundable, usdc.held) == (5_000, 2_000, 3_000)
    assert (msat.accounted, usdc.accounted) == (msat.deposits, usdc.deposits)


FAULTS = [
    ("UPDATE payments SET amount = amount + 1 WHERE id = 4", {SUM, TRANSFERS, OUTSIDE, ALL, WORTH, INTACT}),
    ("UPDATE payments SET captured = captured - 1, amount = amount - 1 WHERE id = 4",
     {TRANSFERS, ONCE, OUTSIDE, INCOME, WORTH}),
    ("UPDATE payments SET captured = captured - 1, absorbed = absorbed + 1 WHERE id = 4", {TRANSFERS, ONCE, INCOME}),
    ("UPDATE transfers SET amount = amount - 1 WHERE origin = 4 AND kind = 33", {TRANSFERS, INCOME}),
    ("DELETE FROM transfers WHERE origin = 9 AND kind = 31", {TRANSFERS, OUTSIDE}),
    ("DELETE FROM transfers WHERE origin = 1 AND kind = 34", {TRANSFERS, ACCOUNT}),
    ("UPDATE transfers SET debit = credit, credit = debit WHERE origin = 4 AND kind = 36", {ENDS}),
    ("UPDATE transfers SET debit = credit, credit = debit WHERE kind = 43", {ENDS, ACCOUNT}),
    ("UPDATE transfers SET debit = (SELECT id FROM accounts WHERE book = 'usdc' AND name = 'payments')"
     " WHERE origin = 4 AND kind = 36", {ENDS, BOOKS}),
    ("UPDATE payments SET amount = 5, held = 5 WHERE id = 7", {NOTHING, TRANSFERS, OUTSIDE}),
    ("UPDATE payments SET state = 4 WHERE id = 9", {FINAL}),
    ("UPDATE payments SET state = 2 WHERE id = 5", {UNSPENT, OWNER}),
    ("UPDATE payments SET state = 5 WHERE id = 4", {BOUGHT, ONCE, OWNER, ANSWER}),
    ("UPDATE payments SET boot = NULL WHERE id = 10", {HANDS, HOLD}),
    ("UPDATE payments SET boot = 2 WHERE id = 4", {HANDS}),
    ("UPDATE payments SET orphaned = 1 WHERE id = 9", {HANDS}),
    ("UPDATE payments SET hold = 9 WHERE id = 11", {HOLD}),
    ("UPDATE payments SET hold = 99 WHERE id = 11", {HOLD}),
    ("UPDATE holds SET tender_paid = tender_paid - 1 WHERE payment = 4", {ONCE}),
    ("UPDATE holds SET payment = 4, tender_paid = 21000 WHERE payment = 5", {ONCE}),
    ("UPDATE payments SET balance = 9 WHERE id = 1", {PUT_ON, DEPOSITED, ENDS}),
    ("UPDATE payments SET balance = NULL WHERE id = 1", {PUT_ON, DEPOSITED, ENDS}),
    ("UPDATE payments SET unit = 'usdc' WHERE id = 1", {PUT_ON, ENDS, OUTSIDE, ALL}),
    ("DELETE FROM payments WHERE id = 11", {TENDER, ORIGIN, ENDS, OUTSIDE}),
    ("UPDATE holds SET balance = 9 WHERE state < 3 AND balance = 1", {TENDER, HOLDS}),
    ("UPDATE holds SET tender_unit = 'usdc' WHERE state < 3 AND balance = 1", {TENDER}),
    ("UPDATE holds SET tender_held = NULL WHERE id = 2", {TENDER}),
    ("UPDATE holds SET payment = 9 WHERE id = 2", {TENDER, ONCE}),
    ("UPDATE holds SET tender_paid = NULL WHERE id = 2", {AT_MOST, PAID, SPENT}),
    ("UPDATE holds SET tender_paid = 10001 WHERE id = 2", {AT_MOST, PAID, SPENT}),
    ("UPDATE holds SET tender_paid = 0 WHERE state < 3 AND balance = 1", {AT_MOST}),
    ("UPDATE holds SET tender_input = 1999 WHERE id = 3", {CRASHED}),
    ("UPDATE transfers SET amount = 2999 WHERE origin = 2 AND kind = 41", {PAID, ACCOUNT, INCOME}),
    ("UPDATE balances SET deposited = deposited + 1 WHERE id = 1", {DEPOSITED, ACCOUNT, ALL}),
    ("UPDATE balances SET held = 0 WHERE id = 1", {HOLDS}),
    ("UPDATE balances SET spent = spent - 1 WHERE id = 1", {SPENT, ACCOUNT, INCOME}),
    ("UPDATE balances SET spent = 55001 WHERE id = 1", {SPENT, BELOW, ACCOUNT, INCOME, INTACT}),
    ("UPDATE balances SET folded = folded - 1 WHERE id = 1", {SPENT, FOLDED}),
    ("DELETE FROM transfers WHERE kind = 42", {FOLDED, ACCOUNT, INCOME}),
    ("UPDATE balances SET expired = expired - 1 WHERE id = 2", {END, ACCOUNT}),
    ("DELETE FROM transfers WHERE kind = 43", {END, ACCOUNT}),
    ("UPDATE transfers SET kind = 44 WHERE kind = 43", {END, ORIGIN, ENDS}),
    ("UPDATE ecash SET owner = 'us' WHERE payment = 5", {OWNER}),
    ("UPDATE ecash SET owner = 'payer' WHERE payment = 4", {OWNER}),
    ("UPDATE ecash SET payment = 99 WHERE payment = 5", {OWNER, GIVEN}),
    ("UPDATE ecash SET amount = amount + 1 WHERE payment = 5", {WORTH}),
    ("DELETE FROM ecash WHERE payment = 5", {GIVEN}),
    ("UPDATE paid_answers SET payment = 9", {ANSWER}),
    ("UPDATE invoices SET terms = '9'", {TOPS_UP}),
    ("UPDATE invoices SET settled_ms = NULL", {WAITS}),
    ("UPDATE payments SET boot = 99, hold = NULL WHERE id = 10", {DEAD}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[fault[:90] for fault, _ in FAULTS])
async def test_a_planted_fault_is_found(ledger: SqliteLedger, fault: str, expected: set[str]) -> None:
    """Exactly the rules that a fault breaks report it."""
    await ledger.flush()
    assert change(ledger.path, fault) >= 1
    assert await rules(ledger) == expected


async def test_a_proof_used_twice_is_found(ledger: SqliteLedger) -> None:
    """Even where the file's own uniqueness were lost."""
    await ledger.flush()
    change(ledger.path, "ALTER TABLE payments RENAME TO constrained")
    change(ledger.path, "CREATE TABLE payments AS SELECT * FROM constrained")
    change(ledger.path, "INSERT INTO payments SELECT * FROM payments WHERE id = 6")
    change(ledger.path, "UPDATE payments SET id = 60 WHERE rowid = (SELECT max(rowid) FROM payments)")
    assert ONE in await rules(ledger)


async def test_a_lease_of_a_dead_process_is_found(ledger: SqliteLedger) -> None:
    """Until somebody has recovered it."""
    other = opened(ledger.path)
    await other.lease(unsettled(), "top-up")
    crash(other)
    assert await rules(ledger) == {DEAD}
    ledger._sweep()
    assert await ledger.audit() == []
