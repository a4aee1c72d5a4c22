"""Spend reports."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger.schema import connect
from proxy.ledger.spend import GROUPS, SpendRow, spend, total
from proxy.pricing.money import Nano
from tests.ledger.making import BERLIN, crash, dispatched, ms, opened, report, request, serve


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


async def test_crashed_exchanges_are_spend(path: Path) -> None:
    """What recovery settles in full is reported like everything else."""
    ledger = opened(path)
    await dispatched(ledger, request(100, at_ms=ms("2026-07-01")))
    crash(ledger)
    again = opened(path)
    (row,) = report(path, "team")
    assert (row.requests, row.charged, row.list) == (1, 100, 100)
    await again.close()
