"""Token buckets: how fast one address, key, user or team may go on.

A limit of N per period is a bucket of N tokens that fills evenly within the period: N may come at once, and
over any longer time t at most N + N x t / period. A request limit has two buckets, sustained and burst, and
takes from both or from neither; a token limit has one, charged with an estimate that is corrected later.

A bucket is kept as one integer: the moment (nanoseconds, monotonic) at which it is full again. Taking moves that
moment on by the time the taken tokens need to come back, so nothing ever has to be refilled or swept. The clock is
read to the microsecond. The time a token takes is rounded up to a nanosecond: a limit is never exceeded by rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

from proxy.clock import Clock

_MINUTE_NS: Final = 60_000_000_000
_SECOND_NS: Final = 1_000_000_000

EVICTION_LOOKS_MAX: Final = 64
"""Entries looked at, at most, to find one whose buckets are full before one that still owes is dropped."""


class RequestLimit(Protocol):
    """`per_minute` sustained, `burst` within `burst_seconds`; each at least 1."""

    @property
    def per_minute(self) -> int: ...
    @property
    def burst(self) -> int: ...
    @property
    def burst_seconds(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit worked out for checking: time of one token and of a whole bucket, in nanoseconds. 0: not limited."""

    request_ns: int = 0
    request_span_ns: int = 0
    burst_ns: int = 0
    burst_span_ns: int = 0
    token_ns: int = 0
    token_span_ns: int = 0

    @classmethod
    def of(cls, requests: RequestLimit | None, tokens_per_minute: int | None) -> Self | None:
        """None where nothing is limited. Raises ValueError for a limit below 1."""
        if requests is None and tokens_per_minute is None:
            return None
        request_ns = burst_ns = token_ns = per_minute = burst = tokens = 0
        if requests is not None:
            per_minute, burst = requests.per_minute, requests.burst
            request_ns = _interval(_MINUTE_NS, per_minute)
            burst_ns = _interval(requests.burst_seconds * _SECOND_NS, burst)
        if tokens_per_minute is not None:
            tokens = tokens_per_minute
            token_ns = _interval(_MINUTE_NS, tokens)
        return cls(request_ns, request_ns * per_minute, burst_ns, burst_ns * burst, token_ns, token_ns * tokens)


def _interval(period_ns: int, count: int) -> int:
    if count < 1 or period_ns < 1:
        raise ValueError(f"a limit is at least 1 in a period of at least 1 s, not {count} in {period_ns} ns")
    return -(-period_ns // count)


class Account:
    """Three buckets of one key, each as the moment (monotonic ns) at which it is full again."""

    __slots__ = ("burst", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.burst = 0
        self.tokens = 0

    def wait(self, now: int, rate: Rate, tokens: int) -> int:
        """Nanoseconds until one request of `tokens` passes; 0 or less: now.

        A request of more tokens than the bucket holds passes when it is full, and leaves a debt behind.
        """
        wait = 0
        if rate.request_ns:
            wait = self.requests + rate.request_ns - rate.request_span_ns - now
            burst = self.burst + rate.burst_ns - rate.burst_span_ns - now
            wait = max(burst, wait)
        if rate.token_ns and tokens:
            need = min(tokens * rate.token_ns, rate.token_span_ns)
            wait = max(wait, self.tokens + need - rate.token_span_ns - now)
        return wait

    def take(self, now: int, rate: Rate, tokens: int) -> None:
        """Take one request of `tokens`, whether or not it was waited for."""
        if rate.request_ns:
            self.requests = max(now, self.requests) + rate.request_ns
            self.burst = max(now, self.burst) + rate.burst_ns
        if rate.token_ns and tokens:
            self.tokens = max(now, self.tokens) + tokens * rate.token_ns

    def correct(self, now: int, rate: Rate, tokens: int) -> None:
        """Take more tokens (a debt may arise), or give back where negative (never beyond a full bucket)."""
        self.tokens = max(now, self.tokens) + tokens * rate.token_ns

    def full_at(self) -> int:
        """From this moment on the account is as good as a new one."""
        return max(self.requests, self.burst, self.tokens)


class Accounts:
    """The accounts of one scope by key, at most `entries_max` of them.

    A new key beyond that drops the least recently used account whose buckets are full, which loses nothing. Where
    none of the oldest `EVICTION_LOOKS_MAX` is full, the one nearest to it goes: fresh tokens can be had that way only
    by keeping `entries_max` other keys busy, and then only those that would have come back soonest.
    """

    __slots__ = ("_entries", "entries_max")

    def __init__(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self._entries: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def of(self, key: str, now: int) -> Account:
        """The account of a key, made full where there was none."""
        entries = self._entries
        account = entries.get(key)
        if account is not None:
            entries.move_to_end(key)
            return account
        if len(entries) >= self.entries_max:
            self._evict(now)
        account = entries[key] = Account()
        return account

    def find(self, key: str) -> Account | None:
        """The account of a key if it is known; its age is not changed."""
        return self._entries.get(key)

    def _evict(self, now: int) -> None:
        entries = self._entries
        nearest, soonest = "", -1
        for _ in range(min(EVICTION_LOOKS_MAX, len(entries))):
            key, account = next(iter(entries.items()))
            full_at = account.full_at()
            if full_at <= now:
                del entries[key]
                return
            if soonest < 0 or full_at < soonest:
                nearest, soonest = key, full_at
            entries.move_to_end(key)
        del entries[nearest]


class Claim(NamedTuple):
    """What one scope has to say about a request."""

    accounts: Accounts
    key: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing was taken. The same request passes after exactly `wait_ns`, if nobody else takes meanwhile."""

    wait_ns: int
    claim: Claim
    """The one that makes it wait longest."""

    @property
    def retry_after_seconds(self) -> float:
        return self.wait_ns / _SECOND_NS


class Buckets:
    """The check over any number of claims. One event loop's; not for several threads."""

    __slots__ = ("_monotonic",)

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic

    def take(self, claims: Sequence[Claim], tokens: int = 0) -> Denied | None:
        """One request of `tokens` from every claim, or from none of them."""
        now = int(self._monotonic() * 1e6 + 0.5) * 1000
        if len(claims) == 1:
            claim = claims[0]
            account = claim.accounts.of(claim.key, now)
            wait = account.wait(now, claim.rate, tokens)
            if wait > 0:
                return Denied(wait, claim)
            account.take(now, claim.rate, tokens)
            return None
        longest = 0
        denied: Claim | None = None
        accounts: list[Account] = []
        for claim in claims:
            account = claim.accounts.of(claim.key, now)
            accounts.append(account)
            wait = account.wait(now, claim.rate, tokens)
            if wait > longest:
                longest, denied = wait, claim
        if denied is not None:
            return Denied(longest, denied)
        for claim, account in zip(claims, accounts, strict=True):
            account.take(now, claim.rate, tokens)
        return None

    def correct(self, claims: Sequence[Claim], tokens: int) -> None:
        """Take `tokens` more than was estimated, or give the difference back where negative."""
        if not tokens:
            return
        now = int(self._monotonic() * 1e6 + 0.5) * 1000
        for claim in claims:
            account = claim.accounts.find(claim.key)
            if account is not None and claim.rate.token_ns:
                account.correct(now, claim.rate, tokens)
