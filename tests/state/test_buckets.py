"""Token buckets: exact waits, all or nothing, bounded memory that forgives nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Bucket
from proxy.state.buckets import EVICTION_LOOKS_MAX, Account, Accounts, Buckets, Claim, Rate

MS = 1_000_000


class ManualClock:
    """A clock in whole microseconds that moves only when told."""

    def __init__(self, microseconds: int = 1_000_000_000) -> None:
        self.microseconds = microseconds

    def now_ms(self) -> int:
        return self.microseconds // 1000

    def monotonic(self) -> float:
        return self.microseconds / 1e6

    def advance_ns(self, ns: int) -> None:
        self.microseconds += -(-ns // 1000)


def rate(per_minute: int = 120, burst: int = 25, burst_seconds: int = 10, tokens: int | None = None) -> Rate:
    made = Rate.of(Bucket(per_minute, burst, burst_seconds), tokens)
    assert made is not None
    return made


def setup(limit: Rate, entries_max: int = 100) -> tuple[ManualClock, Buckets, Claim]:
    clock = ManualClock()
    return clock, Buckets(clock), Claim(Accounts(entries_max), "k", limit)


def test_burst_passes_and_the_next_waits_exactly_one_token() -> None:
    """25 at once pass; the 26th waits the 400 ms that one of 25 tokens in 10 s takes."""
    _, buckets, claim = setup(rate())

    assert [buckets.take((claim,)) for _ in range(25)] == [None] * 25
    denied = buckets.take((claim,))
    assert denied is not None
    assert denied.wait_ns == 400 * MS
    assert denied.retry_after_seconds == 0.4


def test_sustained_limit_holds_when_the_burst_bucket_would_allow_more() -> None:
    """At one request each 400 ms (the burst rate, 150 a minute) the sustained bucket of 120 runs dry."""
    clock, buckets, claim = setup(rate())
    passed = 0
    while buckets.take((claim,)) is None:
        passed += 1
        clock.advance_ns(400 * MS)

    elapsed_s = passed * 0.4
    assert 120 + 2 * elapsed_s >= passed > 120
    denied = buckets.take((claim,))
    assert denied is not None
    assert denied.wait_ns <= 500 * MS


@given(
    per_minute=st.integers(1, 100_000),
    burst=st.integers(1, 10_000),
    burst_seconds=st.integers(1, 60),
    gaps_ms=st.lists(st.integers(0, 5_000), min_size=1, max_size=60),
    start_us=st.integers(0, 10**12),
)
def test_waiting_exactly_the_named_time_passes_and_a_millisecond_less_does_not(
    per_minute: int, burst: int, burst_seconds: int, gaps_ms: list[int], start_us: int
) -> None:
    """Whatever was taken before, the wait is the smallest one that helps."""
    limit = rate(per_minute, burst, burst_seconds)
    clock = ManualClock(start_us)
    buckets, claim = Buckets(clock), Claim(Accounts(10), "k", limit)
    denied = None
    for gap in gaps_ms:
        clock.advance_ns(gap * MS)
        denied = buckets.take((claim,))
        if denied is not None:
            break
    else:
        account = claim.accounts.of("k", 0)
        while denied is None:
            account.requests += limit.request_span_ns // 4 + 1
            denied = buckets.take((claim,))
    now = clock.microseconds
    if denied.wait_ns > MS:
        clock.microseconds = now
        clock.advance_ns(denied.wait_ns - MS)
        assert buckets.take((claim,)) is not None
    clock.microseconds = now
    clock.advance_ns(denied.wait_ns)
    assert buckets.take((claim,)) is None


@given(count=st.integers(1, 3_000), seconds=st.integers(1, 60))
def test_a_full_bucket_holds_exactly_its_limit(count: int, seconds: int) -> None:
    """Rounding of the time of one token neither adds nor removes a request."""
    limit = rate(10**9, count, seconds)
    clock = ManualClock()
    buckets, claim = Buckets(clock), Claim(Accounts(10), "k", limit)

    passed = 0
    while passed <= count and buckets.take((claim,)) is None:
        passed += 1
    assert count == passed


def test_refused_request_takes_nothing_from_any_scope() -> None:
    """A key with room left loses nothing when its team has none."""
    clock = ManualClock()
    buckets = Buckets(clock)
    key = Claim(Accounts(10), "key", rate(60, 60, 60))
    team = Claim(Accounts(10), "team", rate(60, 1, 60))
    assert buckets.take((key, team)) is None

    for _ in range(10):
        denied = buckets.take((key, team))
        assert denied is not None
        assert denied.claim is team
    assert [buckets.take((key,)) for _ in range(59)] == [None] * 59
    assert buckets.take((key,)) is not None


def test_longest_wait_of_all_scopes_is_named() -> None:
    """Of two exhausted scopes the slower one decides."""
    clock = ManualClock()
    buckets = Buckets(clock)
    fast = Claim(Accounts(10), "fast", rate(600, 1, 1))
    slow = Claim(Accounts(10), "slow", rate(600, 1, 30))
    assert buckets.take((fast, slow)) is None

    denied = buckets.take((fast, slow))
    assert denied is not None
    assert (30_000 * MS, slow) == (denied.wait_ns, denied.claim)


def test_token_estimate_is_taken_and_refunded() -> None:
    """What was estimated too much comes back at once."""
    _, buckets, claim = setup(rate(tokens=1_000))
    assert buckets.take((claim,), 1_000) is None
    assert buckets.take((claim,), 1) is not None

    buckets.correct((claim,), -400)
    assert buckets.take((claim,), 400) is None
    assert buckets.take((claim,), 1) is not None


def test_tokens_beyond_the_estimate_become_a_debt() -> None:
    """A request that used more than estimated makes the next one wait for it."""
    clock, buckets, claim = setup(rate(tokens=60_000))
    assert buckets.take((claim,), 60_000) is None
    buckets.correct((claim,), 30_000)

    denied = buckets.take((claim,), 1_000)
    assert denied is not None
    assert denied.wait_ns == 31_000 * MS
    clock.advance_ns(denied.wait_ns)
    assert buckets.take((claim,), 1_000) is None


def test_refund_never_fills_beyond_the_limit() -> None:
    """A refund to a bucket that has filled up meanwhile gives nothing extra."""
    clock, buckets, claim = setup(rate(tokens=1_000))
    assert buckets.take((claim,), 500) is None
    clock.advance_ns(120_000 * MS)
    buckets.correct((claim,), -500)

    assert buckets.take((claim,), 1_000) is None
    assert buckets.take((claim,), 1) is not None


def test_request_larger_than_the_bucket_passes_only_when_full_and_leaves_a_debt() -> None:
    """One request of three minutes' tokens passes, then three minutes less one token's time are owed."""
    clock, buckets, claim = setup(rate(10_000, 10_000, 1, tokens=60_000))
    assert buckets.take((claim,), 180_000) is None

    denied = buckets.take((claim,), 180_000)
    assert denied is not None
    assert denied.wait_ns == 180_000 * MS
    clock.advance_ns(denied.wait_ns)
    assert buckets.take((claim,), 180_000) is None


def test_scope_without_a_request_limit_counts_tokens_only() -> None:
    """Requests of no tokens pass without end."""
    made = Rate.of(None, 100)
    assert made is not None
    _, buckets, claim = setup(made)

    assert buckets.take((claim,), 100) is None
    assert [buckets.take((claim,)) for _ in range(50)] == [None] * 50
    assert buckets.take((claim,), 1) is not None


def test_no_limit_makes_no_rate() -> None:
    """Nothing limited: nothing to check."""
    assert Rate.of(None, None) is None


@pytest.mark.parametrize("limit", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_limit_below_one_is_refused(limit: tuple[int, int, int]) -> None:
    """A bucket that nothing fits into is a mistake in the configuration."""
    with pytest.raises(ValueError, match="at least 1"):
        Rate.of(Bucket(*limit), None)


def test_number_of_accounts_is_bounded() -> None:
    """A flood of addresses never holds more than the named number of accounts."""
    clock = ManualClock()
    buckets, accounts = Buckets(clock), Accounts(50)
    for number in range(1_000):
        assert buckets.take((Claim(accounts, f"ip{number}", rate()),)) is None
        assert len(accounts) <= 50


def test_flood_of_other_keys_does_not_refresh_an_exhausted_one() -> None:
    """An abuser who exhausted a key and then floods the store with others finds it as exhausted as before."""
    clock = ManualClock()
    buckets, accounts = Buckets(clock), Accounts(100)
    abuser = Claim(accounts, "abuser", rate())
    for _ in range(25):
        assert buckets.take((abuser,)) is None

    for number in range(5_000):
        buckets.take((Claim(accounts, f"other{number}", rate()),))
    denied = buckets.take((abuser,))
    assert denied is not None
    assert denied.wait_ns == 400 * MS


def test_full_accounts_are_dropped_before_owing_ones() -> None:
    """With room to be had from accounts that are full again, no owing one is dropped."""
    clock = ManualClock()
    buckets, accounts = Buckets(clock), Accounts(EVICTION_LOOKS_MAX)
    owing = [Claim(accounts, f"owing{n}", rate(tokens=10)) for n in range(EVICTION_LOOKS_MAX // 2)]
    for claim in owing:
        assert buckets.take((claim,), 10_000) is None
    for number in range(EVICTION_LOOKS_MAX // 2):
        assert buckets.take((Claim(accounts, f"light{number}", rate()),)) is None

    clock.advance_ns(5_000 * MS)
    for number in range(EVICTION_LOOKS_MAX // 2):
        assert buckets.take((Claim(accounts, f"new{number}", rate()),)) is None
    assert all(claim.key in accounts for claim in owing)


def test_limits_of_a_new_configuration_apply_to_what_was_already_taken() -> None:
    """Accounts outlive a reload: a bucket half empty under the old limit is half empty under the new one."""
    _, buckets, claim = setup(rate(600, 100, 10))
    for _ in range(50):
        assert buckets.take((claim,)) is None
    lower = Claim(claim.accounts, claim.key, rate(600, 10, 10))

    assert [buckets.take((lower,)) for _ in range(5)] == [None] * 5
    assert buckets.take((lower,)) is not None


def test_new_account_is_full() -> None:
    """As good as new from the start."""
    assert Account().full_at() == 0
