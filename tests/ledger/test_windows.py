"""Windows of caps, in time zones whose clocks jump."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.ledger.windows import window_bounds

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3_600_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu",
         "America/St_Johns", "Asia/Beirut", "Africa/Cairo", "America/Asuncion", "Pacific/Apia")  # fmt: skip


def ms(text: str, zone: ZoneInfo = BERLIN, *, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()) * 1000


def test_a_day_is_local() -> None:
    """A day begins at the zone's midnight, not at UTC's."""
    assert window_bounds("day", ms("2026-07-01T23:59:59"), BERLIN) == (ms("2026-07-01"), ms("2026-07-02"))


@pytest.mark.parametrize(
    ("day", "following", "hours"), [("2026-03-29", "2026-03-30", 23), ("2026-10-25", "2026-10-26", 25)]
)
def test_days_of_changing_clocks_have_23_or_25_hours(day: str, following: str, hours: int) -> None:
    """The day on which the clock is changed is one window, as long as it really is."""
    start, end = window_bounds("day", ms(f"{day}T12:00"), BERLIN)
    assert (start, end) == (ms(day), ms(following))
    assert end - start == hours * HOUR


def test_an_hour_that_comes_twice_is_two_windows() -> None:
    """02:30 summer time and 02:30 winter time fall into windows of their own, an hour each."""
    first = window_bounds("hour", ms("2026-10-25T02:30"), BERLIN)
    second = window_bounds("hour", ms("2026-10-25T02:30", fold=1), BERLIN)
    assert first[1] == second[0]
    assert [end - start for start, end in (first, second)] == [HOUR, HOUR]


def test_a_skipped_midnight_begins_the_day_at_the_skip() -> None:
    """Cairo's clock went from 24:00 to 01:00: the day begins at that instant and has 23 hours."""
    cairo = ZoneInfo("Africa/Cairo")
    start, end = window_bounds("day", ms("2026-04-24T12:00", cairo), cairo)
    assert start == ms("2026-04-24T01:00", cairo)
    assert end - start == 23 * HOUR


def test_a_month_is_a_calendar_month() -> None:
    """From the first's midnight to the next first's, over a change of clocks and of the year."""
    assert window_bounds("month", ms("2026-03-29T12:00"), BERLIN) == (ms("2026-03-01"), ms("2026-04-01"))
    assert window_bounds("month", ms("2026-12-31T23:59:59"), BERLIN) == (ms("2026-12-01"), ms("2027-01-01"))


def test_total_never_ends() -> None:
    """One window for ever."""
    assert window_bounds("total", ms("2026-03-29"), BERLIN) == (0, 0)


def test_an_unknown_window_is_an_error() -> None:
    """No window is guessed."""
    with pytest.raises(ValueError, match="hour, day, month, total"):
        window_bounds("week", 0, BERLIN)


def test_a_clock_moved_back_finds_the_window_before() -> None:
    """What is remembered of the current window does not outlive it in either direction."""
    edge = ms("2026-07-02")
    before, after = (ms("2026-07-01"), edge), (edge, ms("2026-07-03"))
    seen = [window_bounds("day", at, BERLIN) for at in (edge - 1, edge, edge - 1, edge + 1, edge - HOUR)]
    assert seen == [before, after, before, after, before]


@settings(max_examples=300, deadline=None)
@given(
    at=st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001
    zone=st.sampled_from(ZONES),
    window=st.sampled_from(("hour", "day", "month")),
)
def test_windows_leave_no_gap_and_never_overlap(at: datetime, zone: str, window: str) -> None:
    """Every moment is in its window; both its ends, and its neighbours', agree."""
    at_ms = int(at.replace(tzinfo=UTC).timestamp() * 1000)
    where = ZoneInfo(zone)
    start, end = window_bounds(window, at_ms, where)
    assert start <= at_ms < end
    assert window_bounds(window, start, where) == (start, end)
    assert window_bounds(window, end - 1, where) == (start, end)
    assert window_bounds(window, start - 1, where)[1] == start
    assert window_bounds(window, end, where)[0] == end
