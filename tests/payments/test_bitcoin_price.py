"""Dollars a bitcoin: exact, fresh, and sane."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from proxy.egress import Answer, EgressFailure
from proxy.payments.bitcoin_price import BitcoinPriceSource, PriceRefused, price_in
from proxy.payments.settings import BitcoinPrice
from tests.support.fakes import FakeClock

BILLION = 1_000_000_000


class FakeEgress:
    """Answers what a test says."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.closed = False

    async def request(self, method: str, path: str, **_: Any) -> Answer:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, EgressFailure):
            raise answer
        if isinstance(answer, int) and answer < 600:
            return Answer(answer, httpx.Headers(), b"{}")
        body = answer if isinstance(answer, bytes) else json.dumps({"USD": {"last": answer}}).encode()
        return Answer(200, httpx.Headers(), body)

    async def aclose(self) -> None:
        self.closed = True


class FakeLog:
    def __init__(self) -> None:
        self.events: list[str] = []

    def warning(self, event: str, **_: object) -> None:
        self.events.append(event)

    info = warning


def source(*answers: object, **settings: Any) -> tuple[BitcoinPriceSource, FakeClock, FakeLog, FakeEgress]:
    clock, log, egress = FakeClock(), FakeLog(), FakeEgress(*answers)
    wanted = BitcoinPrice(url="https://prices.example", pointer="/USD/last", **settings)
    return BitcoinPriceSource(wanted, clock, log, egress=egress), clock, log, egress  # type: ignore[arg-type]


async def test_a_fixed_price_is_always_fresh_and_exact() -> None:
    """Nobody is asked."""
    clock = FakeClock()
    fixed = BitcoinPriceSource(BitcoinPrice(fixed=Decimal("97123.45")), clock, FakeLog())
    await fixed.start()
    clock.advance(10**9)
    assert fixed.nano_per_btc() == 97_123_450_000_000
    await fixed.stop()


@pytest.mark.parametrize(
    ("body", "pointer", "usd"),
    [(b"97000", "", "97000"), (b'{"p": 97000.123456789}', "/p", "97000.123456789"),
     (b'{"p": "97000.5"}', "/p", "97000.5"), (b'[1, {"a/b": {"m~n": 9.7e4}}]', "/1/a~1b/m~0n", "97000")],
)  # fmt: skip
def test_a_price_is_read_exactly(body: bytes, pointer: str, usd: str) -> None:
    """Numbers and decimal text, by RFC 6901."""
    assert price_in(body, pointer) == int(Decimal(usd) * BILLION)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"true", b'{"p": null}', b'{"p": true}', b'{"p": "x"}', b'{"p": "NaN"}', b'{"p": "Infinity"}',
     b'{"p": NaN}', b'{"p": Infinity}', b'{"p": 0}', b'{"p": -97000}', b'{"p": 999.99}', b'{"p": 100000001}',
     b'{"p": 1e999999999}', b'{"p": [97000]}', b'{"p": {}}', b'{"q": 97000}', b"[97000]", b'"p"', b"[" * 60_000,
     b'{"p": ' + b"9" * 60_000 + b"}", b"\xff\xfe"],
)  # fmt: skip
def test_junk_zero_negative_and_absurd_are_refused(body: bytes) -> None:
    """And nothing else happens."""
    with pytest.raises(PriceRefused):
        price_in(body, "/p")


async def test_a_polled_price_is_there_from_the_start_and_goes_stale() -> None:
    """By the monotonic clock."""
    it, clock, _, egress = source(97_000, stale_seconds=600)
    assert it.nano_per_btc() is None
    await it.start()
    await it.start()
    assert it.nano_per_btc() == 97_000 * BILLION
    clock.ms += 10**9
    clock.seconds += 600
    assert it.nano_per_btc() == 97_000 * BILLION
    clock.seconds += 1
    assert it.nano_per_btc() is None
    assert await it.poll()
    assert it.nano_per_btc() == 97_000 * BILLION
    await it.stop()
    assert egress.closed


async def test_failures_keep_the_last_price_until_it_is_stale_and_are_logged_once() -> None:
    """Unreachable, an error status, junk."""
    it, clock, log, _ = source(97_000, EgressFailure("down", sent=False), 500, b"junk", 98_000)
    assert await it.poll()
    for _ in range(3):
        assert not await it.poll()
        assert it.nano_per_btc() == 97_000 * BILLION
    clock.advance(601)
    assert it.nano_per_btc() is None
    assert await it.poll()
    assert it.nano_per_btc() == 98_000 * BILLION
    assert log.events == ["bitcoin_price_failed", "bitcoin_price_back"]


async def test_a_jump_is_taken_once_it_is_confirmed() -> None:
    """One wrong answer moves nothing, in either direction; a real move takes two polls."""
    it, _, log, _ = source(100_000, 121_000, 100_500, 79_000, 121_000, 122_000, 146_000)
    taken = [await it.poll() for _ in range(7)]
    assert taken == [True, False, True, False, False, True, True]
    assert it.nano_per_btc() == 146_000 * BILLION
    assert log.events == ["bitcoin_price_jumped"] * 3


async def test_it_polls_by_itself_until_it_is_stopped() -> None:
    """In a task with a name."""
    it, _, _, egress = source(97_000, poll_seconds=0.01)
    await it.start()
    assert any(task.get_name() == "bitcoin-price" for task in asyncio.all_tasks())
    while egress.asked < 4:
        await asyncio.sleep(0.005)
    await it.stop()
    asked = egress.asked
    assert not any(task.get_name() == "bitcoin-price" for task in asyncio.all_tasks())
    await asyncio.sleep(0.03)
    assert egress.asked == asked


async def test_a_source_that_is_down_does_not_stop_the_start() -> None:
    """Rails in sats are just not on offer."""
    it, _, log, _ = source(EgressFailure("down", sent=False))
    await it.start()
    assert it.nano_per_btc() is None
    assert log.events == ["bitcoin_price_failed"]
    await it.stop()
