"""kill -9 among a hundred running exchanges, and what the next start on the same folder makes of it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger.books import State
from proxy.pricing.money import usd_text
from tests.faults import books
from tests.faults.crowd import Client, ask, chat, cost_nano, hold_nano
from tests.faults.gates import with_gates
from tests.peers.behaviour import Behaviour, Fault
from tests.support.raw import request
from tests.support.world import CHAIN, GPT_4O_PRICE, MODELS, TEAMS, World, world

POINTS = ("uploading", "priced", "held", "dispatched", "called", "half", "streaming", "answered", "finished")
"""Where in its life an exchange is when the process dies; the model of its request says which."""
UNHELD = ("uploading", "priced")
EACH = 11
MAX_TOKENS = 50
WORDS = 30
"""What the provider generates."""
COST = cost_nano(2, WORDS)
HANGING = {
    "called": Behaviour(fault=Fault.HANG_BEFORE_HEAD),
    "half": Behaviour(chunks=WORDS, fault=Fault.HANG_MID),
    "streaming": Behaviour(chunks=WORDS, fault=Fault.HANG_MID, after_chunks=5),
}
LONG = {"connect_seconds": 5, "first_byte_seconds": 60, "idle_seconds": 60, "total_seconds": 60}


def body_at(point: str) -> bytes:
    return chat(point, max_tokens=MAX_TOKENS, stream=point == "streaming")


def held_at(point: str) -> int:
    return hold_nano(body_at(point), MAX_TOKENS)


CAP = EACH * sum(held_at(point) for point in POINTS if point not in UNHELD)
"""All holds at once fill it to the last nano-dollar."""


def model(*upstreams: str) -> dict[str, Any]:
    return {"candidates": list(upstreams), "price": GPT_4O_PRICE, "context": 128_000, "output_max": 16_384}


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[World]:
    """A proxy with gates, and a team whose cap is `CAP`."""
    models = {point: model("openai") for point in POINTS}
    models |= {"demo": MODELS["demo"], "gpt-4o": MODELS["gpt-4o"], "second": model("dead", "openai")}
    team = {"organisation": "acme", "tier": "standard", "caps": [{"usd": usd_text(CAP), "window": "total"}]}
    with world(
        tmp_path,
        config={"chain": with_gates(CHAIN), "drain_client_gone_seconds": 5},
        policies={"models": {"models": models}, "teams": {**TEAMS, "teams": {"default": team}}},
        deadlines=LONG,
    ) as running:
        running.provider.default = Behaviour(chunks=WORDS)
        for name, behaviour in HANGING.items():
            running.provider.script(behaviour, model=name)
        yield running


async def bring(client: Client, point: str, key: str) -> None:
    """Send the request, and wait for as much of its answer as there will ever be."""
    if point == "uploading":
        await client.send(request(body_at(point)[:40], key=key, length=5_000_000))
        return
    await client.send(request(body_at(point), key=key))
    if point == "streaming":
        await client.until(b'"content":"w')
    elif point == "finished":
        assert (await client.answer()).status == 200


def in_place(running: World) -> bool:
    """Every exchange that leaves a trace outside the proxy has reached its point."""
    states = Counter((hold.model, hold.state) for hold in books.holds(running.gateway))
    seen = Counter(one.json()["model"] for one in running.provider.requests if one.whole)
    answered = sum(one.answered for one in running.provider.requests if one.json()["model"] == "answered")
    return (
        states["held", State.HELD] == EACH
        and all(states[point, State.DISPATCHED] == EACH for point in POINTS[3:8])
        and states["finished", State.SETTLED] == EACH
        and all(seen[point] == EACH for point in ("called", "half", "streaming"))
        and answered == EACH
    )


async def test_kill_9_among_exchanges_at_every_point_of_their_lives(killed: World) -> None:
    """Dispatched: in full against the cap. Never dispatched: free again. Finished: what it cost. Nothing is open."""
    gateway = killed.gateway
    key = books.make_key(gateway)
    async with AsyncExitStack() as stack:
        clients = [
            (await stack.enter_async_context(Client(gateway.address("api"))), point)
            for point in POINTS
            for _ in range(EACH)
        ]
        assert len(clients) == 99
        await asyncio.gather(*(bring(client, point, key) for client, point in clients))
        await books.until(lambda: in_place(killed), "not every exchange came to its point")
        gateway.kill()
    gateway.start()

    ended = Counter((hold.model, hold.state, hold.outcome, hold.held, hold.charged) for hold in books.holds(gateway))
    full = {(p, State.SETTLED, "crashed", held_at(p), held_at(p)): EACH for p in POINTS[3:8]}
    assert ended == {
        ("held", State.RELEASED, "crashed", held_at("held"), 0): EACH,
        ("finished", State.SETTLED, "served", held_at("finished"), COST): EACH,
        **full,
    }
    spent = EACH * (sum(held_at(point) for point in POINTS[3:8]) + COST)
    assert books.team_cap(gateway) == (spent, 0)
    await spends_the_rest(killed, key, CAP - spent)
    books.assert_proven(gateway)
    await books.until_ended(gateway)


async def spends_the_rest(running: World, key: str, left: int) -> None:
    """The key works; a request for more than is left is refused, and one for what is left is served."""
    address = running.gateway.address("api")
    slack = hold_nano(chat("finished", max_tokens=1000), 1000)
    tokens = 1000 + (left - slack) // 10_000
    assert len(str(tokens)) == 4
    over = await ask(address, chat("finished", max_tokens=tokens + 1), key=key)
    assert (over.status, over.code) == (402, "quota_exhausted")
    assert over.json()["error"]["cap"]["left_usd"] == usd_text(left)
    assert (await ask(address, chat("finished", max_tokens=tokens), key=key)).status == 200
    await books.until_ended(running.gateway)
    assert books.team_cap(running.gateway) == (CAP - left + COST, 0)


async def test_a_key_made_just_before_the_kill_works_after_it(killed: World) -> None:
    """Making and revoking keys is durable before the command returns."""
    gateway = killed.gateway
    revoked = gateway.make_key()
    gateway.cli("keys", "revoke", revoked)
    made = gateway.make_key()
    gateway.kill()
    gateway.start()
    assert (await ask(gateway.address("api"), chat(), key=made)).status == 200
    assert (await ask(gateway.address("api"), chat(), key=revoked)).status == 401


class Storm:
    """A hundred clients that go on until the proxy is killed: at the `last`-th answer that one of them has in full."""

    def __init__(self, running: World, key: str, last: int) -> None:
        self._gateway = running.gateway
        self._address = running.gateway.address("api")
        self._key = key
        self._last = last
        self.acknowledged: set[str] = set()
        """Request ids of whole 200 answers."""

    async def rage(self, kind: str) -> None:
        """Returns once the proxy is dead and every client has noticed."""
        await asyncio.gather(*(self._client(kind, number) for number in range(100)))

    async def _client(self, kind: str, number: int) -> None:
        try:
            while True:
                async with Client(self._address) as client:
                    await self._exchange(client, kind, number)
        except (ConnectionError, OSError):
            return

    async def _exchange(self, client: Client, kind: str, number: int) -> None:
        name = "second" if kind == "attempts" else "gpt-4o"
        stream = kind in ("streams", "cuts")
        await client.send(request(chat(name, max_tokens=MAX_TOKENS, stream=stream), key=self._key))
        if kind == "leavers" and number % 2:
            await asyncio.sleep(0)
            client.leave()
            return
        if await client.head() == 402:
            return
        if kind == "cuts" and number % 2:
            await client.until(b'"content":"w')
            client.leave()
            return
        answer = await client.rest()
        assert answer.status == 200, answer.body
        self.acknowledged.add(answer.headers["x-tollway-request-id"])
        if len(self.acknowledged) == self._last:
            self._gateway.signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("kind", "last"),
    [("holds", 60), ("attempts", 20), ("streams", 5), ("cuts", 30), ("leavers", 20)],
)
async def test_kill_9_in_a_storm_loses_nothing_that_was_acknowledged(killed: World, kind: str, last: int) -> None:
    """What a client has in full is on the books; so is all that the provider did; never more than the cap."""
    gateway, provider = killed.gateway, killed.provider
    if kind == "streams":
        provider.default = Behaviour(chunks=WORDS, delay_seconds=0.002)
    key = books.make_key(gateway)
    storm = Storm(killed, key, last)
    await storm.rage(kind)
    assert len(storm.acknowledged) >= last
    gateway.kill()
    gateway.start()

    by_id = {hold.exchange_id: hold for hold in books.holds(gateway)}
    assert storm.acknowledged <= by_id.keys()
    for exchange_id in storm.acknowledged:
        hold = by_id[exchange_id]
        assert hold.state is State.SETTLED
        assert hold.charged == (COST if hold.outcome == "served" else hold.held), hold
    assert books.open_count(gateway) == 0
    spent, held = books.team_cap(gateway)
    assert held == 0
    assert COST * sum(one.whole for one in provider.requests) <= spent <= CAP
    assert spent == sum(hold.charged or 0 for hold in by_id.values())
    books.assert_clean(gateway)
    assert (await ask(gateway.address("api"), chat("demo"), key=key)).status == 200
