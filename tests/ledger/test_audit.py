"""The audit finds every fault planted in the file, and nothing in clean books."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.ledger.api import Basis
from proxy.ledger.audit import RULES
from proxy.ledger.store import SqliteLedger
from proxy.pricing.money import Nano
from tests.ledger.making import cap, change, crash, dispatched, opened, request, settlement
from tests.ledger.test_audit_payments import FAULTS as PAYMENT_FAULTS
from tests.ledger.test_audit_purses import FAULTS as PURSE_FAULTS

INTACT = "the file is intact"
ABANDONED = "no hold of a dead process is open"


@dataclass
class Books:
    ledger: SqliteLedger
    path: Path


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    """One hold of every kind: settled below and above, released, held, dispatched, committed."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    caps = (cap(10_000), cap(10_000, "key", "key_1", basis=Basis.LIST))
    for cost in (70, 150):
        hold, attempt = await dispatched(ledger, request(100, *caps))
        ledger.settle(hold, settlement(cost, attempt))
    hold, _ = await dispatched(ledger, request(100, *caps))
    ledger.release(hold, reason="connect_failed", at_ms=3)
    await ledger.hold(request(100, *caps))
    await dispatched(ledger, request(100, *caps))
    hold, _ = await dispatched(ledger, request(100, *caps))
    await ledger.commit(hold)
    await ledger.flush()
    yield Books(ledger, path)
    await ledger.close()


async def rules(books: Books) -> set[str]:
    return {finding.rule for finding in await books.ledger.audit()}


async def test_clean_books_have_no_finding(books: Books) -> None:
    """Open holds, releases and overage are no fault."""
    assert await books.ledger.audit() == []


FAULTS = [
    ("UPDATE counters SET held = held + 1 WHERE id = 1", {"a counter holds the sum of its open holds"}),
    ("UPDATE counters SET spent = spent - 1 WHERE id = 1", {"a counter has spent the sum of its settled holds"}),
    ("UPDATE counters SET overage = 0 WHERE id = 1", {"a counter's overage is what was settled above its holds"}),
    ("UPDATE counters SET limit_max = 300 WHERE id = 2", {"no counter is over its limit but by overage"}),
    ("UPDATE holds SET counters = '[1, 2, 99]' WHERE id = 4", {"every counter of a hold is there"}),
    ("DELETE FROM transfers WHERE origin = 1 AND kind = 1", {"a settled hold has its charged transfer"}),
    ("DELETE FROM transfers WHERE origin = 2 AND kind = 2", {"a settled hold has its charged overage"}),
    ("UPDATE transfers SET amount = 69 WHERE origin = 1 AND kind = 3", {"a settled hold has its list transfer"}),
    ("UPDATE transfers SET amount = 1 WHERE origin = 2 AND kind = 4", {"a settled hold has its list overage"}),
    (
        "INSERT INTO transfers SELECT 4, 1, debit, credit, 5, 0 FROM transfers WHERE origin = 1 AND kind = 1",
        {"a transfer comes from what can move money"},
    ),
    (
        "UPDATE transfers SET debit = credit, credit = debit WHERE origin = 1 AND kind = 1",
        {"a transfer goes between the accounts of its kind"},
    ),
    (
        "UPDATE transfers SET credit = (SELECT id FROM accounts WHERE name = 'providers')"
        " WHERE origin = 1 AND kind = 1",
        {"a transfer goes between the accounts of its kind", "the accounts of a book sum to zero"},
    ),
    (
        "UPDATE transfers SET debit = 99 WHERE origin = 1 AND kind = 1",
        {"a transfer goes between the accounts of its kind", "the accounts of a book sum to zero"},
    ),
    ("UPDATE attempts SET list_cost = 71 WHERE hold_id = 1", {"the attempts of a hold cost its list total"}),
    ("DELETE FROM attempts WHERE hold_id = 1", {"the attempts of a hold cost its list total"}),
    ("UPDATE holds SET ended_ms = NULL WHERE id = 1", {"an ended hold has its amounts and its end"}),
    ("UPDATE holds SET charged = 5 WHERE id = 3", {"an ended hold has its amounts and its end"}),
    ("UPDATE holds SET charged = 5 WHERE id = 4", {"an ended hold has its amounts and its end"}),
    ("UPDATE attempts SET outcome = NULL WHERE hold_id = 1", {"an ended hold has no attempt under way"}),
    ("DELETE FROM attempts WHERE hold_id = 5", {"a hold is dispatched when it has attempts"}),
    ("UPDATE holds SET state = 0 WHERE id = 6", {"a hold is dispatched when it has attempts"}),
    ("UPDATE attempts SET hold_id = 77 WHERE hold_id = 3", {"an attempt belongs to a hold"}),
    (
        "UPDATE holds SET outcome = 'crashed', owed = 0 WHERE id = 1",
        {"of a fixed price nothing more is charged after a crash than is owed"},
    ),
    ("DELETE FROM boots", {ABANDONED}),
    ("UPDATE holds SET boot = 99 WHERE id = 4", {ABANDONED}),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[fault[:60] for fault, _ in FAULTS])
async def test_a_planted_fault_is_found(books: Books, fault: str, expected: set[str]) -> None:
    """Exactly the rules that a fault breaks report it."""
    assert change(books.path, fault) >= 1
    assert await rules(books) == expected


async def test_a_hold_that_vanished_breaks_every_sum_it_was_in(books: Books) -> None:
    """Deleting a settled hold leaves its money, its transfers and its attempt without an origin."""
    change(books.path, "DELETE FROM holds WHERE id = 1")
    found = await rules(books)
    assert {
        "a counter has spent the sum of its settled holds",
        "a transfer comes from what can move money",
        "an attempt belongs to a hold",
    } <= found


@pytest.mark.parametrize(
    ("table", "copy", "rule"),
    [
        ("holds", "INSERT INTO holds SELECT 100, exchange_id, boot, 4, key_id, user, team, organisation, model,"
         " operation, held_charged, held_list, 0, 0, '[]', at_ms, 1, 'copy', NULL, 0, NULL, '',"
         " NULL, NULL, NULL, NULL, NULL, NULL, NULL"
         " FROM holds WHERE id = 1",
         "an exchange has one hold"),
        ("transfers", "INSERT INTO transfers SELECT * FROM transfers WHERE origin = 1 AND kind = 1",
         "a transfer happens once"),
    ],
)  # fmt: skip
async def test_a_key_used_twice_is_found(books: Books, table: str, copy: str, rule: str) -> None:
    """Even where the file's own uniqueness were lost, a second use of an idempotency key is found."""
    change(books.path, f"ALTER TABLE {table} RENAME TO constrained")
    change(books.path, f"CREATE TABLE {table} AS SELECT * FROM constrained")
    change(books.path, copy)
    assert rule in await rules(books)


async def test_a_hold_of_a_dead_process_is_found(books: Books, tmp_path: Path) -> None:
    """Holds left open by a process that died are a finding until somebody has recovered them."""
    other = opened(books.path)
    await other.hold(request(100))
    crash(other)
    assert await rules(books) == {ABANDONED}
    books.ledger._sweep()
    assert await books.ledger.audit() == []
    assert books.ledger.recovered.released == 1


async def test_a_day_without_its_transfers_is_found(books: Books) -> None:
    """The sums that pruning leaves are proved like the rows they stand for."""
    change(books.path, "INSERT INTO days VALUES (1, 0, 'red', 'ann', 'key_1', 'm', 1, 0, 0, 0, 0, 40, 30, 4, 3, 0)")
    assert await rules(books) == {
        "a day has its charged transfer",
        "a day has its charged overage",
        "a day has its list transfer",
        "a day has its list overage",
    }


def test_every_rule_is_broken_by_some_test() -> None:
    """No rule is there only for show."""
    tried = {rule for _, rules_ in FAULTS + PURSE_FAULTS + PAYMENT_FAULTS for rule in rules_}
    tried |= {"an exchange has one hold", "a transfer happens once", "a proof is one payment"}
    tried |= {rule for rule in RULES if rule.startswith("a day has")}
    assert set(RULES) <= tried


async def test_a_damaged_file_is_found(books: Books) -> None:
    """What SQLite itself finds wrong is a finding, too."""
    change(books.path, "UPDATE counters SET held = -1 WHERE id = 1")
    assert INTACT in await rules(books)


async def test_a_limit_raised_and_lowered_is_no_fault(tmp_path: Path) -> None:
    """Lowering a cap below what is spent is the operator's right, not an overrun."""
    ledger = opened(tmp_path / "tollway.db")
    hold, attempt = await dispatched(ledger, request(900, cap(1000)))
    ledger.settle(hold, settlement(900, attempt))
    await ledger.hold(request(0, cap(100, soft_limit=Nano(50))))
    assert await ledger.audit() == []
    await ledger.close()
