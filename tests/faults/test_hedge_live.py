"""A second candidate beside a silent one, over real sockets: one answer, one charge, the other connection closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults import books
from tests.faults.crowd import Client, ask, chat, get
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.provider import ScriptedProvider
from tests.support.raw import request
from tests.support.world import CHAIN, DEADLINES, ROUTING, World, world

WARM = 25
"""Answers of the first candidate before anything is slow: as many as are set to be wanted for a p95."""
PERCENT = 5
CROWD, EACH = 10, 30
WORDS = Behaviour(text="one two three four five six seven eight nine ten")
LANE_NANO, FIRST_NANO, SECOND_NANO = 3_000, 1_000, 2_000
"""A token."""
TOKENS = 2 + 10
MAX_TOKENS = 50


@dataclass(slots=True)
class Pair:
    """A proxy with a hedging lane over two providers."""

    world: World
    first: ScriptedProvider
    second: ScriptedProvider
    key: str

    @property
    def address(self) -> tuple[str, int]:
        return self.world.gateway.address("api")

    async def warm(self, body: bytes) -> None:
        """So many answers of the first candidate, one after the other."""
        async with Client(self.address) as client:
            for _ in range(WARM):
                assert (await client.ask(request(body, key=self.key))).headers["x-route-model"] == "first-model"

    def attempts(self) -> list[Any]:
        """Upstream, outcome and list cost of every attempt of the last exchange."""
        query = (
            "SELECT upstream, outcome, list_cost FROM attempts "
            "WHERE hold_id = (SELECT max(id) FROM holds) ORDER BY number"
        )
        return books.rows(self.world.gateway, query)


def one(upstream: str, price: str) -> dict[str, Any]:
    return {"candidates": [upstream], "price": {"input": price, "output": price}, "context": 128_000}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """The first one serves at once until it is told otherwise."""
    models = {
        "first-model": one("first", "1"),
        "second-model": one("second", "2"),
        "lane": {
            "lane": ["first-model", "second-model"],
            "price": {"input": "3", "output": "3"},
            "strategy": "priority",
            "sticky": False,
            "hedge": True,
        },
    }
    routing = {"routing": {**ROUTING, "hedge_samples_min": WARM}}
    chain = [routing if isinstance(entry, dict) and "routing" in entry else entry for entry in CHAIN]
    with ScriptedProvider() as first, ScriptedProvider() as second:
        first.default = second.default = WORDS
        more = {
            name: {"base_url": f"{provider.url}/v1", "key": "${OPENAI_API_KEY}", "deadlines": DEADLINES}
            for name, provider in (("first", first), ("second", second))
        }
        policies = {"models": {"models": models}}
        with world(tmp_path, config={"chain": chain}, policies=policies, more_upstreams=more) as running:
            yield Pair(running, first, second, running.gateway.make_key())


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(False, Fault.HANG_BEFORE_HEAD), (True, Fault.HANG_BEFORE_HEAD), (True, Fault.HANG_AFTER_HEAD)],
)
async def test_second_answers_and_the_silent_one_is_hung_up_on(pair: Pair, stream: bool, fault: Fault) -> None:
    """Long before the deadline; charged once, and at list the silent one counts as all that was held for it."""
    body = chat("lane", prompt="Say hello.", stream=stream, max_tokens=MAX_TOKENS)
    await pair.warm(body)
    pair.first.default = Behaviour(fault=fault)
    answer = await ask(pair.address, body, key=pair.key)
    assert (answer.status, answer.headers["x-route-model"]) == (200, "second-model")
    assert b"error" not in answer.body
    silent = pair.first.requests[-1]
    await books.until(lambda: silent.cut, "the silent one's connection stays open")
    assert len(pair.second.requests) == 1
    await books.until_ended(pair.world.gateway)
    ((held, charged, listed),) = books.rows(
        pair.world.gateway, "SELECT held_list, charged, list FROM holds ORDER BY id DESC LIMIT 1"
    )
    assert charged == TOKENS * LANE_NANO
    assert listed == TOKENS * SECOND_NANO + held // 2 <= held
    assert pair.attempts() == [("first", "hedge_lost", held // 2), ("second", "served", TOKENS * SECOND_NANO)]
    books.assert_clean(pair.world.gateway)


async def test_first_that_answers_after_all_is_the_one_that_is_taken(pair: Pair) -> None:
    """Then the second is hung up on."""
    body = chat("lane", prompt="Say hello.", max_tokens=MAX_TOKENS)
    await pair.warm(body)
    pair.first.default = Behaviour(text=WORDS.text, head_delay_seconds=0.3)
    pair.second.default = Behaviour(fault=Fault.HANG_BEFORE_HEAD)
    answer = await ask(pair.address, body, key=pair.key)
    assert (answer.status, answer.headers["x-route-model"]) == (200, "first-model")
    await books.until(lambda: pair.second.requests[-1].cut, "the second one's connection stays open")
    await books.until_ended(pair.world.gateway)
    assert [(upstream, outcome) for upstream, outcome, _ in pair.attempts()] == [
        ("first", "served"),
        ("second", "hedge_lost"),
    ]


async def test_hedges_are_a_small_share_of_the_traffic(pair: Pair) -> None:
    """However slow the first one has become; and nothing is left open behind them."""
    body = chat("lane", prompt="Say hello.", max_tokens=MAX_TOKENS)
    await pair.warm(body)
    pair.first.default = Behaviour(text=WORDS.text, head_delay_seconds=0.05)

    async def client() -> None:
        async with Client(pair.address) as connection:
            for _ in range(EACH):
                assert (await connection.ask(request(body, key=pair.key))).status == 200

    await asyncio.gather(*(client() for _ in range(CROWD)))
    await books.until_ended(pair.world.gateway)
    requests = WARM + CROWD * EACH
    ((attempts,),) = books.rows(pair.world.gateway, "SELECT count(*) FROM attempts")
    assert 1 <= attempts - requests <= requests * PERCENT / 100
    ((charged,),) = books.rows(pair.world.gateway, "SELECT sum(charged) FROM holds")
    assert charged == requests * TOKENS * LANE_NANO
    books.assert_clean(pair.world.gateway)
    listed = json.loads((await get(pair.world.gateway.address("admin"), "/upstreams")).body)["upstreams"]
    circuits = [circuit for name in ("first", "second") for circuit in listed[name]["circuits"]]
    assert [circuit["in_flight"] for circuit in circuits] == [0, 0]


async def test_client_that_leaves_a_race_leaves_nothing_open(pair: Pair) -> None:
    """Both are read on for as long as an operator says, then closed; what they did is not known."""
    body = chat("lane", prompt="Say hello.", max_tokens=MAX_TOKENS)
    await pair.warm(body)
    pair.first.default = pair.second.default = Behaviour(fault=Fault.HANG_BEFORE_HEAD)
    async with Client(pair.address) as client:
        await client.send(request(body, key=pair.key))
        await books.until(lambda: len(pair.second.requests) == 1, "no second one was called")
        client.leave()
    await books.until(lambda: pair.first.requests[-1].cut and pair.second.requests[-1].cut, "one stays open")
    await books.until_ended(pair.world.gateway)
    books.assert_clean(pair.world.gateway)
