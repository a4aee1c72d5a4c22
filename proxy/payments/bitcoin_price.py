"""Dollars a bitcoin, in whole nano-dollars: fixed, or polled. Without a fresh price no rail in sats is on offer."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from proxy.clock import Clock
from proxy.egress import Egress, EgressFailure
from proxy.payments.settings import BitcoinPrice
from proxy.pricing.money import NANO_PER_USD

USD_MIN: Final = Decimal(1_000)
USD_MAX: Final = Decimal(100_000_000)
"""A polled price outside of these is a fault of its source (another currency, another unit), not the market."""
JUMP_PERCENT_MAX: Final = 20
"""A larger step from one poll to the next is taken only once the next poll confirms it."""
ANSWER_BYTES_MAX: Final = 64 << 10
ANSWER_SECONDS_MAX: Final = 10.0
RETRY_SECONDS: Final = 15.0
POINTER_STEPS_MAX: Final = 16


class PriceRefused(Exception):
    """An answer that is no price; the message says why."""


class BitcoinPriceSource:
    """Knows the price while it is fresh. Polls in a task of its own between `start` and `stop`."""

    def __init__(self, settings: BitcoinPrice, clock: Clock, log: Any, *, egress: Egress | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._egress = egress
        self._task: asyncio.Task[None] | None = None
        self._price: int | None = None if settings.fixed is None else _nano(settings.fixed)
        self._unconfirmed: int | None = None
        self._fetched_at = 0.0
        self._failing = False

    def nano_per_btc(self) -> int | None:
        """Nano-dollars a bitcoin; None: not known (yet), or older than `stale_seconds`."""
        if self._settings.fixed is None and self._clock.monotonic() - self._fetched_at > self._settings.stale_seconds:
            return None
        return self._price

    async def start(self) -> None:
        """Ask once, then go on asking. A source that fails is logged; it does not stop the start."""
        url = self._settings.url
        if url is None or self._task is not None:
            return
        if self._egress is None:
            self._egress = Egress(url, timeout_seconds=ANSWER_SECONDS_MAX, answer_bytes_max=ANSWER_BYTES_MAX)
        await self.poll()
        self._task = asyncio.get_running_loop().create_task(self._polling(), name="bitcoin-price")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None
        if self._egress is not None:
            await self._egress.aclose()
            self._egress = None

    async def poll(self) -> bool:
        """Ask once; False where the answer could not be used."""
        if self._egress is None:
            return False
        try:
            answer = await self._egress.request("GET", "", headers={"accept": "application/json"})
            if answer.status != 200:
                raise PriceRefused(f"status {answer.status}")
            price = price_in(answer.body, self._settings.pointer)
        except (EgressFailure, PriceRefused) as error:
            if not self._failing:
                self._log.warning("bitcoin_price_failed", reason=str(error))
            self._failing = True
            return False
        if self._failing:
            self._log.info("bitcoin_price_back")
        self._failing = False
        return self._take(price)

    def _take(self, price: int) -> bool:
        jumped = self._price is not None and _jumps(self._price, price)
        if jumped and (self._unconfirmed is None or _jumps(self._unconfirmed, price)):
            self._log.warning("bitcoin_price_jumped", from_nano_usd=self._price, to_nano_usd=price)
            self._unconfirmed = price
            return False
        self._price, self._unconfirmed = price, None
        self._fetched_at = self._clock.monotonic()
        return True

    async def _polling(self) -> None:
        taken = self.nano_per_btc() is not None
        while True:
            await asyncio.sleep(
                self._settings.poll_seconds if taken else min(RETRY_SECONDS, self._settings.poll_seconds)
            )
            taken = await self.poll()


def price_in(body: bytes, pointer: str) -> int:
    """Nano-dollars a bitcoin at a JSON pointer (RFC 6901): a number or its decimal text. Raises PriceRefused."""
    try:
        found = json.loads(body, parse_float=Decimal)
        for step in pointer.split("/", POINTER_STEPS_MAX)[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
    except (ValueError, RecursionError) as error:
        raise PriceRefused("the answer is no JSON, or the pointer leads through a list by a name") from error
    except (KeyError, IndexError, TypeError) as error:
        raise PriceRefused(f"there is nothing at {pointer}") from error
    if isinstance(found, bool) or not isinstance(found, int | Decimal | str):
        raise PriceRefused(f"at {pointer} there is no number")
    try:
        usd = Decimal(found)
    except InvalidOperation as error:
        raise PriceRefused(f"at {pointer} there is no number") from error
    if not usd.is_finite() or not USD_MIN <= usd <= USD_MAX:
        raise PriceRefused(f"the price at {pointer} is not between {USD_MIN} and {USD_MAX} dollars")
    return _nano(usd)


def _nano(usd: Decimal) -> int:
    return int(usd * NANO_PER_USD)


def _jumps(before: int, after: int) -> bool:
    return abs(after - before) * 100 > before * JUMP_PERCENT_MAX
