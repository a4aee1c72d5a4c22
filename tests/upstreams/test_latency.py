"""How fast a candidate was."""

from __future__ import annotations

import pytest

from proxy.upstreams.latency import PEAK_DECAY_SECONDS, SAMPLES_MAX, PeakLatency, Recent


def test_peak_is_taken_at_once_and_forgotten_slowly() -> None:
    """One slow answer shows; fast ones and time both wear it off."""
    peak = PeakLatency()
    assert peak.seconds(0.0) == 0.0
    peak.observe(0.1, 0.0)
    peak.observe(2.0, 1.0)
    assert peak.seconds(1.0) == 2.0
    peak.observe(0.1, 2.0)
    assert 0.1 < peak.seconds(2.0) < 2.0
    assert peak.seconds(2.0 + 20 * PEAK_DECAY_SECONDS) < 0.001


def test_load_counts_what_is_under_way() -> None:
    """An idle slow one may be better than a crowded fast one; an unknown one is tried, but not by all at once."""
    fast, slow, unknown = PeakLatency(), PeakLatency(), PeakLatency()
    fast.observe(0.1, 0.0)
    slow.observe(0.5, 0.0)
    assert fast.load(0, 0.0) < slow.load(0, 0.0) < fast.load(9, 0.0)
    assert unknown.load(0, 0.0) < fast.load(0, 0.0) < unknown.load(1, 0.0)


def test_p95_needs_enough_samples_and_keeps_the_last_ones() -> None:
    """Nineteen of twenty came within it; what is older than the window is gone."""
    recent = Recent()
    for number in range(19):
        recent.add(float(number))
    assert recent.p95(20) is None
    recent.add(100.0)
    assert recent.p95(20) == 100.0
    for _ in range(SAMPLES_MAX):
        recent.add(1.0)
    assert (recent.p95(20), len(recent)) == (1.0, SAMPLES_MAX)


@pytest.mark.parametrize("count", [40, 64, 200])
def test_p95_is_near_the_true_one(count: int) -> None:
    """Of an even spread."""
    recent = Recent()
    for number in range(count):
        recent.add(number % 40 / 40)
    p95 = recent.p95(20)
    assert p95 is not None
    assert 0.9 <= p95 <= 1.0
