"""A wall clock that is moved about: over a window's edge, back again, and through the nights that change the clock."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cap_windows import present
from proxy.identities import CapSetting
from proxy.ledger.api import CapExceeded
from proxy.ledger.windows import window_bounds
from proxy.pricing.money import Nano
from tests.ledger.making import BERLIN, dispatched, ms, opened, request, settlement
from tests.support.fakes import FakeClock

COST = 100
LIMIT = 3 * COST
EDGES = [
    ms("2026-07-02T00:00"),
    ms("2026-03-29T03:00"),
    ms("2026-03-30T00:00"),
    ms("2026-10-25T02:00", fold=1),
    ms("2026-10-26T00:00"),
    ms("2027-01-01T00:00"),
]
"""Midnights of ordinary days, of the 23-hour and the 25-hour day, of a year; and the two changes themselves."""


@pytest.mark.parametrize("window", ["hour", "day", "month"])
@settings(max_examples=20, deadline=None)
@given(
    edge=st.sampled_from(EDGES),
    steps=st.lists(st.integers(-7_200_000, 7_200_000), min_size=6, max_size=24),
)
def test_no_window_takes_more_than_its_cap_however_the_clock_is_moved(window: str, edge: int, steps: list[int]) -> None:
    """Every window has exactly what was admitted in it, never more than the cap, and none of another's."""
    asyncio.run(_moved(window, [edge + step for step in steps]))


async def _moved(window: str, instants: list[int]) -> None:
    setting = CapSetting(LIMIT, window, "charged")
    admitted: Counter[tuple[int, int]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        clock = FakeClock(instants[0])
        ledger = opened(Path(folder) / "tollway.db", clock)
        for at in instants:
            clock.ms = at
            bounds = window_bounds(window, at, BERLIN)
            cap = present("team", "red", setting, at, BERLIN)
            full = admitted[bounds] == LIMIT // COST
            try:
                hold, attempt = await dispatched(ledger, request(COST, cap, at_ms=at))
            except CapExceeded:
                assert full
                continue
            assert not full
            admitted[bounds] += 1
            # It ends in whatever window the clock shows by then, and counts in the one in which it was made.
            ledger.settle(hold, settlement(COST, attempt, at_ms=at - 3_600_000))
        for bounds, count in admitted.items():
            (state,) = await ledger.cap_states((present("team", "red", setting, bounds[0], BERLIN),))
            assert (state.spent, state.held) == (Nano(count * COST), Nano(0))
        assert await ledger.audit() == []
        await ledger.close()
