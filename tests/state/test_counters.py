"""The limiter state of one process."""

from __future__ import annotations

from proxy.clock import SystemClock
from proxy.config.schema import Bucket
from proxy.state import Claim, Counters, Rate


def test_scopes_do_not_share_accounts() -> None:
    """A key and a user of the same name are counted apart, and one scope's flood evicts nothing of another."""
    counters = Counters(SystemClock(), entries_max=10)
    limit = Rate.of(Bucket(1, 1, 60), None)
    assert limit is not None
    assert counters.buckets.take((Claim(counters.key, "same", limit),)) is None
    assert counters.buckets.take((Claim(counters.user, "same", limit),)) is None
    for number in range(100):
        counters.buckets.take((Claim(counters.ip, str(number), limit),))

    assert counters.buckets.take((Claim(counters.key, "same", limit),)) is not None
