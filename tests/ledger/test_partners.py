"""What ran on partners' machines, before and after pruning."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.ledger.partners import PartnerUsage, Statement, partners_seen, statement
from proxy.ledger.schema import connect
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import BERLIN, PURSE, crash, dispatched, ms, opened, put_in, request, serve, settlement

COOP = "gpu-coop"


def november(path: Path, partner: str = COOP, share: str = "70") -> Statement:
    with closing(connect(path, create=False)) as connection:
        since, until = ms("2026-11-01"), ms("2026-12-01")
        return statement(connection, partner, Decimal(share), since_ms=since, until_ms=until)


@pytest.fixture
async def ledger(tmp_path: Path) -> SqliteLedger:
    return opened(tmp_path / "tollway.db")


async def month(ledger: SqliteLedger) -> None:
    await serve(ledger, 60, "2026-11-01T00:00", partner=COOP, upstream="coop-1")
    await serve(ledger, 50, "2026-11-30T23:59", partner=COOP, upstream="coop-2")
    await serve(ledger, 51, "2026-11-15T12:00", partner=COOP, upstream="coop-2")
    await serve(ledger, 9, "2026-10-31T23:59", partner=COOP, upstream="coop-1")
    await serve(ledger, 9, "2026-12-01T00:00", partner=COOP, upstream="coop-1")
    await serve(ledger, 9, "2026-11-15T12:00", partner="other", upstream="other")
    await serve(ledger, 9, "2026-11-15T12:00")
    await ledger.flush()


async def test_a_month_is_the_configured_time_zones(ledger: SqliteLedger) -> None:
    """From its first local midnight to its last: neither an hour of October nor of December."""
    await month(ledger)
    told = november(ledger.path)
    assert [(row.upstream, row.requests, row.charged) for row in told.rows] == [("coop-2", 2, 101), ("coop-1", 1, 60)]
    total = told.total
    assert (total.requests, total.input_tokens, total.output_tokens) == (3, 300, 60)
    assert (total.list, total.charged, total.revenue) == (161, 161, 161)
    with closing(connect(ledger.path)) as connection:
        assert partners_seen(connection) == {COOP, "other"}
    await ledger.close()


def test_the_share_is_rounded_down_once_for_the_month() -> None:
    """Not once a row: 3 times 0.7 of 101 is 212.1, not 3 times 70."""
    rows = tuple(PartnerUsage(f"u{n}", 1, 0, 0, 0, 101, 101) for n in range(3))  # type: ignore[arg-type]
    assert Statement(COOP, Decimal("70"), rows).share == 212
    assert Statement(COOP, Decimal("0.1"), rows).share == 0
    assert Statement(COOP, Decimal("100"), rows).share == 303
    assert Statement(COOP, Decimal("33.333"), ()).share == 0


async def test_pruning_changes_no_statement(ledger: SqliteLedger) -> None:
    """Exchanges are folded by day and upstream."""
    await month(ledger)
    before = {name: november(ledger.path, name) for name in (COOP, "other", "nobody")}
    assert await ledger.prune(ms("2026-11-20"), BERLIN) == 4
    assert {name: november(ledger.path, name) for name in before} == before
    assert await ledger.audit() == []
    await ledger.close()


async def test_revenue_is_what_is_owed_or_was_paid(ledger: SqliteLedger) -> None:
    """What was reported above a hold, and what a purse did not pay, is no partner's to share."""
    await put_in(ledger, 1000)
    await serve(ledger, 150, "2026-11-02T12:00", partner=COOP)
    await serve(ledger, 100, "2026-11-02T12:00", partner=COOP, purse=PURSE, paid=20)
    await ledger.flush()
    total = november(ledger.path).total
    assert (total.charged, total.revenue) == (250, 120)
    assert november(ledger.path).share == 84
    await ledger.close()


async def test_only_the_attempt_that_served_counts(ledger: SqliteLedger) -> None:
    """One that failed first, or one left by a crash, is nobody's usage; who serves after it gets the exchange."""
    at_ms = ms("2026-11-02T12:00")
    hold, first = await dispatched(ledger, request(100, at_ms=at_ms), upstream="coop-1", partner=COOP)
    second = await ledger.dispatch(hold, upstream="openai", upstream_model="m")
    ledger.settle(hold, settlement(40, first, second))
    hold, first = await dispatched(ledger, request(100, at_ms=at_ms), upstream="openai")
    second = await ledger.dispatch(hold, upstream="coop-2", upstream_model="m", partner=COOP)
    ledger.settle(hold, settlement(41, first, second))
    await dispatched(ledger, request(100, at_ms=at_ms), upstream="coop-1", partner=COOP)
    await ledger.flush()
    crash(ledger)
    again = opened(ledger.path)
    assert [(row.upstream, row.charged) for row in november(ledger.path).rows] == [("coop-2", 41)]
    await again.close()


async def test_the_partner_is_the_one_at_the_time_of_the_call(ledger: SqliteLedger) -> None:
    """An upstream that changes hands keeps its past with whom it was."""
    await serve(ledger, 10, "2026-11-02T12:00", partner="old", upstream="gpu")
    await serve(ledger, 11, "2026-11-03T12:00", partner="new", upstream="gpu")
    await ledger.flush()
    assert [november(ledger.path, name).total.charged for name in ("old", "new")] == [10, 11]
    await ledger.close()
