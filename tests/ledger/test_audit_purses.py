"""The audit finds every fault planted in the purses, and nothing where they are in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from proxy.ledger.store import SqliteLedger
from tests.ledger.making import cap, change, crash, dispatched, opened, paying, put_in, settlement

GRANTED = "a purse was granted the sum of its grants"
HOLDS = "a purse holds the sum of its open holds"
SPENT = "a purse has spent what it paid for holds"
OVERAGE = "a purse's overage is what was settled above its holds"
BELOW = "no purse is below zero"
ACCOUNT = "a purse's account holds what was granted and not spent"
FOLDED = "a purse has its pruned payments"
DAYS = "the days' payments are the purses'"
GRANT = "a grant has its transfer"
GRANT_PURSE = "a grant belongs to a purse"
ENDS = "a payment or grant goes between the accounts of its kind"
THERE = "the purse of a hold is there"
AT_MOST = "a purse pays at most what was held and charged"
CRASHED = "a purse pays for the input of what a crash left"
SOURCE = "a hold of money names the source of its prices"
INTACT = "the file is intact"
PAYMENT = "a settled hold has its purse's payment"
CHARGED = "a settled hold has its charged transfer"
ORIGIN = "a transfer comes from what can move money"


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    """Holds 2 to 7: settled below, above and with less paid; released; crashed; held. Hold 1 is pruned."""
    path = tmp_path / "tollway.db"
    before = opened(path)
    await put_in(before, 1000)
    await put_in(before, -100)
    for cost, paid in ((60, None), (70, None), (150, None), (100, 30)):
        hold, attempt = await dispatched(before, paying(100, cap(10_000), at_ms=10 + cost))
        before.settle(hold, settlement(cost, attempt, paid=paid))
    hold = await before.hold(paying(100))
    before.release(hold, reason="refused", at_ms=5)
    await dispatched(before, paying(100))
    await before.flush()
    crash(before)
    ledger = opened(path)
    await ledger.hold(paying(100))
    assert await ledger.prune(75, ZoneInfo("UTC")) == 1
    yield ledger
    await ledger.close()


async def rules(ledger: SqliteLedger) -> set[str]:
    return {finding.rule for finding in await ledger.audit()}


async def test_clean_purses_have_no_finding(ledger: SqliteLedger) -> None:
    """Grants, money taken out, overage, a crash and pruned payments are no fault."""
    assert await ledger.audit() == []


FAULTS = [
    ("UPDATE purses SET granted = granted + 1", {GRANTED, ACCOUNT}),
    ("UPDATE grants SET amount = amount + 1 WHERE id = 1", {GRANTED, GRANT}),
    ("UPDATE purses SET held = held - 1", {HOLDS}),
    ("UPDATE purses SET spent = spent - 1", {SPENT, ACCOUNT}),
    ("UPDATE purses SET overage = 0", {OVERAGE}),
    ("UPDATE purses SET folded = folded - 1, spent = spent - 1", {FOLDED, DAYS, ACCOUNT}),
    ("UPDATE days SET paid = paid - 1", {DAYS, "a day has its charged transfer"}),
    ("DELETE FROM transfers WHERE kind = 15", {FOLDED, ACCOUNT}),
    ("DELETE FROM transfers WHERE kind = 21", {GRANT, ACCOUNT}),
    ("UPDATE grants SET purse = 9 WHERE id = 2", {GRANTED, GRANT_PURSE, ENDS}),
    ("UPDATE transfers SET debit = credit, credit = debit WHERE kind = 5 AND origin = 2", {ENDS, ACCOUNT}),
    ("UPDATE transfers SET debit = credit, credit = debit WHERE kind = 22", {ENDS, ACCOUNT}),
    ("UPDATE holds SET purse = 9 WHERE id = 7", {HOLDS, THERE}),
    ("UPDATE holds SET paid = NULL WHERE id = 5", {AT_MOST}),
    ("UPDATE holds SET paid = 0 WHERE id = 7", {AT_MOST}),
    ("UPDATE holds SET paid = 101 WHERE id = 5", {AT_MOST, SPENT}),
    ("UPDATE holds SET input_charged = 11 WHERE id = 6", {CRASHED}),
    ("UPDATE holds SET price_source = '' WHERE id = 2", {SOURCE}),
    ("UPDATE transfers SET amount = 69 WHERE kind = 5 AND origin = 2", {PAYMENT, ACCOUNT}),
    ("UPDATE transfers SET kind = 16 WHERE kind = 15", {ORIGIN, FOLDED, ACCOUNT}),
    ("UPDATE purses SET granted = 100", {GRANTED, BELOW, ACCOUNT, INTACT}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[fault[:70] for fault, _ in FAULTS])
async def test_a_planted_fault_is_found(ledger: SqliteLedger, fault: str, expected: set[str]) -> None:
    """Exactly the rules that a fault breaks report it."""
    assert change(ledger.path, fault) >= 1
    assert await rules(ledger) == expected


async def test_holds_of_the_first_version_need_no_source(ledger: SqliteLedger) -> None:
    """They were made before sources were kept."""
    change(ledger.path, "UPDATE holds SET price_source = NULL WHERE id = 2")
    assert await ledger.audit() == []
