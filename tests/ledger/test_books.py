"""What the books promise of one batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.ledger import books as books_module
from proxy.ledger import transfers as transfers_module
from proxy.ledger.api import CapExceeded
from proxy.ledger.errors import StaleCounters
from tests.ledger.making import cap, dispatched, opened, request, rows, settlement


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tollway.db"


async def test_counters_changed_unseen_are_read_again(path: Path) -> None:
    """Compare and set: what is remembered of a counter never overwrites what the file says."""
    ledger = opened(path)
    await ledger.hold(request(10, cap(1000)))
    # On the writer's own connection, which data_version does not tell of.
    ledger._connection.execute("UPDATE counters SET held = held + 500, spent = spent + 3")
    await ledger.hold(request(10, cap(1000)))
    assert rows(path, "SELECT spent, held FROM counters") == [(3, 520)]
    await ledger.close()


async def test_counters_that_never_agree_fail_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If they cannot be written nothing is held and the caller is refused."""
    ledger = opened(path)

    def unequal(self: books_module.Books) -> None:
        raise StaleCounters("always")

    with monkeypatch.context() as patch:
        patch.setattr(books_module.Books, "_write_counters", unequal)
        with pytest.raises(Exception, match="overloaded"):
            await ledger.hold(request(10, cap(1000)))
    assert rows(path, "SELECT count(*) FROM holds") == [(0,)]
    await ledger.hold(request(10, cap(1000)))
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_batch_is_decided_in_order(path: Path) -> None:
    """Of many holds in one transaction each sees those before it: as many fit as the cap allows."""
    ledger = opened(path)
    wanted = [ledger.hold(request(30, cap(100))) for _ in range(10)]
    results = await asyncio.gather(*wanted, return_exceptions=True)
    assert [isinstance(result, CapExceeded) for result in results] == [False] * 3 + [True] * 7
    assert results[3].states[0].held == 90  # type: ignore[union-attr]
    await ledger.close()


async def test_what_proves_payment_waits_for_the_disk(path: Path) -> None:
    """A commit is written with full durability, a batch without one is not."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(10))
    (normal,) = ledger._connection.execute("PRAGMA synchronous").fetchone()
    await ledger.commit(hold)
    (full,) = ledger._connection.execute("PRAGMA synchronous").fetchone()
    ledger.settle(hold, settlement(10, attempt))
    await ledger.flush()
    (again,) = ledger._connection.execute("PRAGMA synchronous").fetchone()
    assert (normal, full, again) == (1, 2, 1)
    await ledger.close()


async def test_free_exchanges_move_no_money(path: Path) -> None:
    """An amount of 0 needs no transfer."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(0))
    ledger.settle(hold, settlement(0, attempt))
    await ledger.flush()
    assert rows(path, "SELECT count(*) FROM transfers") == [(0,)]
    assert await ledger.audit() == []
    await ledger.close()


async def test_what_is_remembered_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters and accounts are forgotten past their limit, and found again."""
    monkeypatch.setattr(books_module, "COUNTERS_CACHED_MAX", 3)
    monkeypatch.setattr(transfers_module, "ACCOUNTS_CACHED_MAX", 3)
    ledger = opened(path)
    for _ in range(2):
        for number in range(10):
            one = cap(1000, "key", f"key_{number}")
            hold, attempt = await dispatched(ledger, request(10, one, team=f"team-{number}"))
            ledger.settle(hold, settlement(10, attempt))
            await ledger.flush()
    assert len(ledger._books._counters) <= 5
    assert len(ledger._books._transfers._accounts) <= 4
    assert rows(path, "SELECT DISTINCT spent FROM counters") == [(20,)]
    assert await ledger.audit() == []
    await ledger.close()
