"""Payers who do everything that payers do, at random, and keep an account of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import httpx

from tests.support.paid import CHAT, PaidWorld, body
from tests.support.raw import Raw, request
from tests.support.ways_to_pay import BALANCE, FEE_SATS, REFUND, Balance, Cashu, Paid, Way, worth

SETTLED_SECONDS_MAX: Final = 30.0
BOUGHT_SATS: Final = 100
ACTS: Final = ("ask", "ask", "ask", "insist", "crowd", "leave", "refund", "race", "buy")


@dataclass
class Story:
    """One payment, and what came of it as its payer saw it."""

    way: Way
    paid: Paid
    asked: dict[str, Any]
    answers: list[httpx.Response] = field(default_factory=list)
    left: bool = False
    """An answer may have gone out to a connection that was gone."""
    refunds: list[httpx.Response] = field(default_factory=list)

    @property
    def served(self) -> list[httpx.Response]:
        """Answers that the payment bought, the same one again included."""
        return [answer for answer in self.answers if answer.status_code == 200]

    @property
    def back(self) -> list[httpx.Response]:
        """Refunds that gave something."""
        return [answer for answer in self.refunds if answer.status_code == 200]


@dataclass
class Account:
    """Of all payers together."""

    stories: list[Story] = field(default_factory=list)
    balances: dict[str, int] = field(default_factory=dict)
    """Token -> what was paid for it, in msat or usdc."""
    invoiced_msat: int = 0
    """Of invoices for balances that were paid."""
    change: list[str] = field(default_factory=list)
    """Tokens that came with answers and failures."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Payer:
    """One of many. Every choice comes from the seed; what comes of it depends on the others, too."""

    def __init__(
        self, seed: int, shops: tuple[PaidWorld, ...], ways: Mapping[str, Way], models: list[str], account: Account
    ) -> None:
        self._random = Random(seed)
        self._shops = shops
        self._ways = ways
        self._models = models
        self._account = account

    def live(self, steps: int) -> None:
        """So many payments."""
        for number in range(steps):
            self._step(number)

    def _step(self, number: int) -> None:
        choose = self._random.choice
        way, act = self._ways[choose(list(self._ways))], choose(ACTS)
        stream = way.streams and self._random.random() < 0.4
        asked = body(
            f"step {number} of {id(self)}",
            model=choose(self._models), max_tokens=self._random.randrange(20, 3000), stream=stream,
        )  # fmt: skip
        story = Story(way, way.pay(choose(self._shops), asked), asked)
        with self._account.lock:
            if isinstance(way, Balance):
                self._account.balances[token_of(story.paid)] = story.paid.amount
                self._account.invoiced_msat += story.paid.amount
            else:
                self._account.stories.append(story)
        getattr(self, f"_{act}")(story)

    # -- what they do

    def _ask(self, story: Story) -> None:
        self._send(story)

    def _insist(self, story: Story) -> None:
        """Until it is served, or tried with too often."""
        for _ in range(4):
            if self._send(story) == 200:
                return

    def _crowd(self, story: Story) -> None:
        """Six at once, at both processes."""
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: self._send(story), range(6)))

    def _leave(self, story: Story) -> None:
        """At some moment, without a word."""
        headers = tuple(f"{name}: {value}" for name, value in story.paid.headers.items())
        shop, seconds = self._random.choice(self._shops), self._random.random() * 0.15
        story.left = True
        with Raw(shop.world.gateway.address("api")) as connection:
            connection.send(request(story.asked, headers=headers))
            time.sleep(seconds)
            connection.reset()

    def _refund(self, story: Story) -> None:
        """Without having used it, or after."""
        if self._random.random() < 0.5:
            self._send(story)
        self.claim(story)

    def _race(self, story: Story) -> None:
        """Use it and have it back, both at once."""
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(one, story) for one in (self._send, self._claim, self._send, self._claim)]:
                future.result()

    def _buy(self, story: Story) -> None:
        """A balance with it, where it pays for one; several requests on that at once."""
        token = token_of(story.paid) if isinstance(story.way, Balance) else self._bought(story)
        if token is None:
            return
        bearer = {"authorization": f"Bearer {token}"}
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: self._post(CHAT, story.asked, bearer), range(3)))

    def _bought(self, story: Story) -> str | None:
        """A new balance, or more on one that somebody has."""
        if not isinstance(story.way, Cashu) or worth(story.paid.headers["x-cashu"]) <= BOUGHT_SATS + FEE_SATS:
            return None
        with self._account.lock:
            topped_up = self._random.choice([None, *self._account.balances])
        bearer = {} if topped_up is None else {"authorization": f"Bearer {topped_up}"}
        answer = self._post(BALANCE, {"sats": BOUGHT_SATS}, {**story.paid.headers, **bearer})
        if answer is None or answer.status_code != 200:
            return None
        story.answers.append(answer)
        self._keep(answer)
        token = str(answer.json()["token"])
        with self._account.lock:
            self._account.balances[token] = self._account.balances.get(token, 0) + BOUGHT_SATS * 1000
        return token

    # -- with what

    def _send(self, story: Story) -> int:
        answer = self._post(CHAT, story.asked, story.paid.headers)
        if answer is None:
            story.left = True
            return 0
        story.answers.append(answer)
        self._keep(answer)
        return answer.status_code

    def claim(self, story: Story) -> httpx.Response | None:
        """Ask for it back until it is known what became of it."""
        deadline = time.monotonic() + SETTLED_SECONDS_MAX
        while (answer := self._claim(story)) is not None and answer.status_code in (409, 503):
            if answer.json()["error"]["code"] == "payment_spent":
                break
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)
        return answer

    def _claim(self, story: Story) -> httpx.Response | None:
        if isinstance(story.way, Balance):
            return None
        answer = self._post(REFUND, {}, story.paid.shown)
        if answer is not None:
            story.refunds.append(answer)
        return answer

    def _keep(self, answer: httpx.Response) -> None:
        token = answer.headers.get("x-cashu-change")
        if token is not None:
            with self._account.lock:
                self._account.change.append(token)

    def _post(self, path: str, document: dict[str, Any], headers: dict[str, str]) -> httpx.Response | None:
        shop = self._random.choice(self._shops)
        with suppress(httpx.TransportError):
            return httpx.post(shop.url + path, json=document, headers=headers, timeout=30)
        return None


def token_of(paid: Paid) -> str:
    """Of a balance."""
    return paid.headers["authorization"].removeprefix("Bearer ")
