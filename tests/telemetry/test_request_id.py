"""Ids of exchanges sort by time and do not repeat."""

from __future__ import annotations

import os
import re

from proxy.telemetry.request_id import RequestIds, new_request_id


class StepClock:
    """A clock that is set by hand."""

    ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return 0.0


def test_shape_is_the_prefix_and_26_characters() -> None:
    """Lower-case base 32 without letters that look like digits."""
    ids = RequestIds(StepClock())

    assert all(re.fullmatch(r"req_[0-9a-hjkmnp-tv-z]{26}", ids.new()) for _ in range(2_000))


def test_ids_of_one_millisecond_all_differ() -> None:
    """80 random bits each, over several refills of the buffer."""
    ids = RequestIds(StepClock())

    assert len({ids.new() for _ in range(5_000)}) == 5_000


def test_ids_sort_by_time() -> None:
    """A later millisecond sorts after an earlier one, over carries of every digit."""
    clock = StepClock()
    ids = RequestIds(clock)
    made = []
    for ms in (1, 31, 32, 1_023, 1_024, 2**20 - 1, 2**20, 1_700_000_000_000, 1_700_000_000_001, 2**47):
        clock.ms = ms
        made.append(ids.new())

    assert sorted(made) == made


def test_two_makers_share_nothing() -> None:
    """Each draws its own random bytes."""
    one, other = RequestIds(StepClock()), RequestIds(StepClock())

    assert not {one.new() for _ in range(500)} & {other.new() for _ in range(500)}


def test_fork_does_not_repeat_the_ids_of_its_parent() -> None:
    """A child draws its own random bytes."""
    new_request_id()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_request_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)

    assert theirs[-16:] != new_request_id()[-16:]
