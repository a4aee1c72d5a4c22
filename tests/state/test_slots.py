"""Concurrency slots: all or none, given back exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.state.slots import Lease, Slots, SlotsFull


def test_slots_are_limited_and_come_back() -> None:
    """The third of two is refused until one of the two is released."""
    slots = Slots()
    first = slots.acquire([("ip:a", 2)])
    slots.acquire([("ip:a", 2)])
    with pytest.raises(SlotsFull) as full:
        slots.acquire([("ip:a", 2)])
    assert (full.value.key, full.value.limit) == ("ip:a", 2)

    first.release()
    assert slots.in_use("ip:a") == 1
    slots.acquire([("ip:a", 2)])


def test_second_release_gives_nothing_back() -> None:
    """Releasing twice frees one slot, not two."""
    slots = Slots()
    first, _second = slots.acquire([("k", 2)]), slots.acquire([("k", 2)])
    first.release()
    first.release()

    assert slots.in_use("k") == 1


def test_refused_acquire_takes_no_slot_of_any_scope() -> None:
    """A full address leaves the total untouched."""
    slots = Slots()
    slots.acquire([("ip:a", 1)])
    with pytest.raises(SlotsFull):
        slots.acquire([("total", 5), ("ip:a", 1)])

    assert slots.in_use("total") == 0


def test_leaving_the_block_releases_even_on_an_exception() -> None:
    """The lease is a context."""
    slots = Slots()
    with pytest.raises(RuntimeError), slots.acquire([("k", 1)]):
        raise RuntimeError

    assert slots.in_use("k") == 0


def test_limit_of_zero_admits_nothing() -> None:
    """A scope can be closed."""
    with pytest.raises(SlotsFull):
        Slots().acquire([("k", 0)])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 9)), max_size=200))
def test_counts_are_those_of_the_open_leases(steps: list[tuple[str, bool, int]]) -> None:
    """Any order of acquiring and releasing leaves the counts right, and nothing behind at the end."""
    slots, limit = Slots(), 3
    open_leases: list[tuple[str, Lease]] = []
    for key, acquire, pick in steps:
        mine = sum(1 for name, _ in open_leases if name == key)
        if acquire:
            try:
                open_leases.append((key, slots.acquire([(key, limit), ("total", 5)])))
            except SlotsFull:
                assert mine == limit or len(open_leases) == 5
        elif open_leases:
            open_leases.pop(pick % len(open_leases))[1].release()
        assert slots.in_use("total") == len(open_leases)
    for _, lease in open_leases:
        lease.release()
    assert len(slots) == 0
