"""Pruning changes no report, no cap and no proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.ledger.api import Basis, CapExceeded, Purse
from proxy.ledger.spend import GROUPS
from tests.ledger.making import (
    BERLIN,
    FOREVER,
    PURSE,
    cap,
    dispatched,
    ms,
    opened,
    put_in,
    report,
    request,
    rows,
    serve,
    settlement,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tollway.db"


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


async def test_a_purse_still_knows_what_pruned_holds_were_paid_with(path: Path) -> None:
    """Folding history never gives money back, and the books prove what is left."""
    ledger = opened(path)
    frontier = Purse("team", "red", "frontier")
    await put_in(ledger, 1000)
    await put_in(ledger, 500, frontier)
    await serve(ledger, 90, purse=PURSE)
    await serve(ledger, 150, purse=PURSE)
    await serve(ledger, 80, purse=frontier, paid=20)
    released = await ledger.hold(request(100, purse=PURSE))
    ledger.release(released, reason="refused", at_ms=1)
    await serve(ledger, 7, "2026-07-03T12:00", purse=PURSE)
    await ledger.flush()
    before = {by: report(path, by) for by in GROUPS}
    assert report(path, "team")[0].paid == 90 + 100 + 20 + 7
    assert await ledger.prune(ms("2026-07-03"), BERLIN) == 4
    assert {by: report(path, by) for by in GROUPS} == before
    assert [state.left for state in await ledger.purse_states((PURSE, frontier))] == [803, 480]
    assert await ledger.audit() == []
    await serve(ledger, 5, "2026-07-04T12:00", purse=frontier)
    await serve(ledger, 1, "2026-07-05T12:00")
    assert await ledger.prune(ms("2026-07-05"), BERLIN) == 2
    assert rows(path, "SELECT folded, folded_overage FROM purses ORDER BY id") == [(197, 50), (25, 0)]
    assert await ledger.audit() == []
    await ledger.close()
