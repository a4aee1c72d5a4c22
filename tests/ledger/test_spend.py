"""Spend reports, and that pruning changes none of them."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from proxy.ledger.api import Basis, CapExceeded
from proxy.ledger.schema import connect
from proxy.ledger.spend import GROUPS, SpendRow, spend, total
from proxy.ledger.store import SqliteLedger
from proxy.pricing.money import Nano
from tests.ledger.making import cap, crash, dispatched, opened, request, rows, settlement

BERLIN = ZoneInfo("Europe/Berlin")
FOREVER = 1 << 50


def ms(text: str, *, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()) * 1000


def report(path: Path, by: str, since_ms: int = 0, until_ms: int = FOREVER) -> list[SpendRow]:
    with closing(connect(path, create=False)) as connection:
        return spend(connection, by, since_ms=since_ms, until_ms=until_ms, zone=BERLIN)


async def serve(
    ledger: SqliteLedger, cost: int, text: str = "2026-07-01T12:00", fold: int = 0, **changes: object
) -> None:
    at = ms(text, fold=fold)
    hold, attempt = await dispatched(ledger, request(100, *changes.pop("caps", ()), at_ms=at, **changes))  # type: ignore[misc]
    ledger.settle(hold, settlement(cost, attempt, at_ms=at + 5000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tollway.db"


async def test_groups_sum_the_same_exchanges(path: Path) -> None:
    """Whatever a row stands for, money, overage and tokens add up to the same total."""
    ledger = opened(path)
    await serve(ledger, 70)
    await serve(ledger, 150, user="bob", key_id="key_2")
    await serve(ledger, 30, "2026-07-02T12:00", team="blue", model="gpt-5")
    released, _ = await dispatched(ledger, request(100, at_ms=ms("2026-07-01")))
    ledger.release(released, reason="refused", at_ms=1)
    await dispatched(ledger, request(100, at_ms=ms("2026-07-01")))
    await ledger.flush()
    expected = SpendRow("total", 3, 300, 60, 120, 15, Nano(250), Nano(250), Nano(50), Nano(50))
    assert [total(report(path, by)) for by in GROUPS] == [expected] * len(GROUPS)
    assert [(row.group, row.charged) for row in report(path, "team")] == [("red", 220), ("blue", 30)]
    assert [row.group for row in report(path, "user")] == ["red/bob", "red/ann", "blue/ann"]
    assert [(row.group, row.requests) for row in report(path, "key")] == [("key_2", 1), ("key_1", 2)]
    assert [row.group for row in report(path, "model")] == ["gpt-4o", "gpt-5"]
    assert [(row.group, row.requests) for row in report(path, "day")] == [("2026-07-01", 2), ("2026-07-02", 1)]
    await ledger.close()


async def test_days_are_local_over_a_change_of_clocks(path: Path) -> None:
    """The day on which an hour comes twice has all of its 25 hours, and its neighbours none of them."""
    ledger = opened(path)
    await serve(ledger, 1, "2026-10-24T23:59")
    await serve(ledger, 2, "2026-10-25T00:00")
    await serve(ledger, 4, "2026-10-25T02:30")
    await serve(ledger, 8, "2026-10-25T02:30", fold=1)
    await serve(ledger, 16, "2026-10-25T23:59")
    await serve(ledger, 32, "2026-10-26T00:00")
    await ledger.flush()
    days = [("2026-10-24", 1), ("2026-10-25", 30), ("2026-10-26", 32)]
    assert [(row.group, row.charged) for row in report(path, "day")] == days
    await ledger.close()


async def test_a_report_is_bounded_by_its_moments(path: Path) -> None:
    """The first moment counts, the last does not."""
    ledger = opened(path)
    for day in ("01", "02", "03"):
        await serve(ledger, int(day), f"2026-07-{day}")
    await ledger.flush()
    (row,) = report(path, "team", ms("2026-07-02"), ms("2026-07-03"))
    assert row.charged == 2
    await ledger.close()


def test_an_unknown_group_is_an_error(path: Path) -> None:
    """No group is guessed."""
    with closing(connect(path)) as connection, pytest.raises(ValueError, match="team, user, key, model, day"):
        spend(connection, "colour", since_ms=0, until_ms=1, zone=BERLIN)


async def test_pruning_keeps_every_report_and_a_clean_audit(path: Path) -> None:
    """Old exchanges become one row a day; no report by day or longer changes, and the books still prove it."""
    ledger = opened(path)
    day = {"start_ms": ms("2026-07-01"), "end_ms": ms("2026-07-02")}
    caps = (
        cap(10_000, **day),
        cap(10_000, "organisation", "acme", window="total", start_ms=0, end_ms=0, basis=Basis.LIST),
    )
    for cost in (70, 150, 0, 100):
        await serve(ledger, cost, caps=caps)
    await serve(ledger, 5, "2026-07-01T23:00", user="bob", caps=caps)
    await serve(ledger, 40, "2026-07-03T12:00", caps=caps[1:])
    released = await ledger.hold(request(100, *caps, at_ms=ms("2026-07-01")))
    ledger.release(released, reason="refused", at_ms=1)
    await ledger.flush()
    before = {by: report(path, by) for by in GROUPS}
    assert await ledger.prune(ms("2026-07-03"), BERLIN) == 5
    assert {by: report(path, by) for by in GROUPS} == before
    assert rows(path, "SELECT count(*) FROM holds") == [(2,)]
    assert rows(path, "SELECT count(*) FROM days") == [(2,)]
    assert await ledger.audit() == []
    assert await ledger.prune(ms("2026-07-03"), BERLIN) == 0
    await serve(ledger, 60, "2026-07-04T12:00", caps=caps[1:])
    assert await ledger.prune(ms("2026-07-05"), BERLIN) == 2
    assert rows(path, "SELECT window FROM counters") == [("total",)]
    assert await ledger.audit() == []
    await ledger.close()


async def test_pruning_leaves_open_holds_and_their_caps(path: Path) -> None:
    """A hold that is open stays, however old; its window's counter, too."""
    ledger = opened(path)
    hold, attempt = await dispatched(ledger, request(100, cap(1000), at_ms=5))
    await serve(ledger, 10, caps=(cap(1000),))
    await ledger.flush()
    assert await ledger.prune(FOREVER, BERLIN) == 0
    await serve(ledger, 10)
    await ledger.flush()
    assert await ledger.prune(FOREVER, BERLIN) == 1
    ledger.settle(hold, settlement(100, attempt))
    (state,) = await ledger.cap_states((cap(1000),))
    assert (state.spent, state.held) == (110, 0)
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_total_cap_still_counts_what_was_pruned(path: Path) -> None:
    """Folding history never gives a cap back."""
    ledger = opened(path)
    total_cap = cap(100, window="total", start_ms=0, end_ms=0)
    await serve(ledger, 90, caps=(total_cap,))
    await serve(ledger, 1)
    await ledger.flush()
    assert await ledger.prune(FOREVER, BERLIN) == 1
    with pytest.raises(CapExceeded):
        await ledger.hold(request(11, total_cap))
    await ledger.close()


async def test_crashed_exchanges_are_spend(path: Path) -> None:
    """What recovery settles in full is reported like everything else."""
    ledger = opened(path)
    await dispatched(ledger, request(100, at_ms=ms("2026-07-01")))
    crash(ledger)
    again = opened(path)
    (row,) = report(path, "team")
    assert (row.requests, row.charged, row.list) == (1, 100, 100)
    await again.close()
