"""A lane whose cheapest upstream dies under load: nobody notices, it is left alone, and one trial brings it back."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults import books
from tests.faults.crowd import Client, ask, chat, get
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.provider import OPENAI_KEY, ScriptedProvider
from tests.support.raw import Answer, request
from tests.support.world import CHAIN, World, world

CLIENTS = 20
PAUSE_SECONDS = 0.1
"""Each client asks ten times a second: two hundred requests a second in all."""
OPEN_SECONDS = 1.0
FIRST_BYTE_SECONDS = 0.4
DEADLINES = {"connect_seconds": 1, "first_byte_seconds": FIRST_BYTE_SECONDS, "idle_seconds": 2, "total_seconds": 10}
PER_SECOND = CLIENTS / PAUSE_SECONDS
FAILURES = 5
PROMPT_WORDS, OUTPUT_WORDS = 2, 10
WORDS = Behaviour(text="one two three four five six seven eight nine ten")


@dataclass(slots=True)
class Lane:
    """A proxy with a lane over two providers, and what its clients saw."""

    world: World
    cheap: ScriptedProvider
    dear: ScriptedProvider
    key: str
    answers: list[Answer] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    async def circuit(self) -> dict[str, Any]:
        """The cheap candidate's, as the operator sees it."""
        answer = await get(self.world.gateway.address("admin"), "/upstreams")
        return dict(json.loads(answer.body)["upstreams"]["cheap"]["circuits"][0])

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The circuit as soon as it is so. Raises TimeoutError with `what`."""
        deadline = time.monotonic() + books.SECONDS_MAX
        while not condition(circuit := await self.circuit()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: {circuit}")
            await asyncio.sleep(0.02)
        return circuit

    async def load(self, stop: asyncio.Event) -> None:
        """Two hundred requests a second, every other one streamed, until told to stop."""
        await asyncio.gather(*(self._client(number, stop) for number in range(CLIENTS)))

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + PAUSE_SECONDS * number / CLIENTS
        body = request(chat("lane", prompt="Say hello.", stream=bool(number % 2)), key=self.key)
        async with Client(self.world.gateway.address("api")) as client:
            while not stop.is_set():
                await asyncio.sleep(max(0.0, due - loop.time()))
                due += PAUSE_SECONDS
                try:
                    self.answers.append(await client.ask(body))
                except ConnectionError as error:
                    self.broken.append(str(error))
                    return


def one(upstream: str, price: str) -> dict[str, Any]:
    return {
        "candidates": [{"upstream": upstream, "model": f"{upstream}-model"}],
        "price": {"input": price, "output": price},
        "context": 128_000,
    }


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    """The cheaper of two serves while it lives."""
    routing = {"routing": {"backoff_milliseconds": 1, "circuit_open_seconds": OPEN_SECONDS}}
    chain = [routing if isinstance(entry, dict) and "routing" in entry else entry for entry in CHAIN]
    models = {
        "cheap-model": one("cheap", "1"),
        "dear-model": one("dear", "2"),
        "lane": {"lane": ["dear-model", "cheap-model"], "price": {"input": "3", "output": "3"}, "sticky": False},
    }
    with ScriptedProvider() as cheap, ScriptedProvider() as dear:
        cheap.default = dear.default = WORDS
        more = {
            name: {"base_url": f"{provider.url}/v1", "key": "${OPENAI_API_KEY}", "deadlines": DEADLINES}
            for name, provider in (("cheap", cheap), ("dear", dear))
        }
        assert OPENAI_KEY in (cheap.keys or ())
        config = {"chain": chain}
        with world(tmp_path, config=config, policies={"models": {"models": models}}, more_upstreams=more) as running:
            yield Lane(running, cheap, dear, running.gateway.make_key())


def refuse(provider: ScriptedProvider) -> None:
    provider.refuse_connections()


def back(provider: ScriptedProvider) -> None:
    provider.default = WORDS
    provider.accept_connections()


def behaving(behaviour: Behaviour) -> Callable[[ScriptedProvider], None]:
    def change(provider: ScriptedProvider) -> None:
        provider.default = behaviour

    return change


DEATHS: dict[str, tuple[Callable[[ScriptedProvider], None], Callable[[ScriptedProvider], None], float]] = {
    "refuses connections": (refuse, back, 0.0),
    "resets": (behaving(Behaviour(fault=Fault.RESET_BEFORE_HEAD)), behaving(WORDS), 0.0),
    "answers 500": (behaving(Behaviour(status=500)), behaving(WORDS), 0.0),
    "opens streams with an error, closes on the others": (
        behaving(Behaviour(fault=Fault.ERROR_EVENT_FIRST)),
        behaving(WORDS),
        0.0,
    ),
    "hangs": (behaving(Behaviour(fault=Fault.HANG_BEFORE_HEAD)), behaving(WORDS), FIRST_BYTE_SECONDS),
}
"""How it dies, how it comes back, and how long a call takes to find out."""


@pytest.mark.parametrize("death", DEATHS)
async def test_nobody_notices_that_the_cheapest_died(lane: Lane, death: str) -> None:
    """No request fails; the circuit opens within a second's worth of calls; one trial closes it again."""
    dies, comes_back, notice_seconds = DEATHS[death]
    stop = asyncio.Event()
    load = asyncio.create_task(lane.load(stop))
    await books.until(lambda: len(lane.answers) >= PER_SECOND / 4, "the load does not run")
    assert not lane.dear.requests
    dies(lane.cheap)
    opened = await lane.until(lambda circuit: circuit["state"] != "closed", "the circuit did not open")
    assert opened["openings"] == 1
    comes_back(lane.cheap)
    closed = await lane.until(lambda circuit: circuit["state"] == "closed", "the circuit did not close")
    assert closed["openings"] == 1, "more than one trial"
    served = len(lane.cheap.requests)
    await books.until(lambda: len(lane.cheap.requests) > served + PER_SECOND / 8, "it does not serve again")
    stop.set()
    await load
    await books.until_ended(lane.world.gateway)

    assert lane.broken == []
    assert Counter(answer.status for answer in lane.answers) == {200: len(lane.answers)}
    assert {answer.headers["x-route-model"] for answer in lane.answers} == {"cheap-model", "dear-model"}
    assert not [answer.body for answer in lane.answers if b'"error"' in answer.body]
    failed = books.rows(lane.world.gateway, "SELECT count(*) FROM attempts WHERE outcome NOT IN ('served')")[0][0]
    assert FAILURES <= failed <= PER_SECOND * (1 + notice_seconds)
    _assert_charged_once(lane)


def _assert_charged_once(lane: Lane) -> None:
    """Each at the lane's own price, whoever served it, however often it was tried."""
    charged = books.rows(lane.world.gateway, "SELECT DISTINCT charged FROM holds")
    assert charged == [((PROMPT_WORDS + OUTPUT_WORDS) * 3_000,)]
    assert len(books.holds(lane.world.gateway)) == len(lane.answers)
    books.assert_clean(lane.world.gateway)


async def test_all_circuits_open_is_one_quick_503(lane: Lane) -> None:
    """With the time at which to come back, and that coming back then works."""
    lane.cheap.refuse_connections()
    lane.dear.refuse_connections()
    address = lane.world.gateway.address("api")
    body = chat("lane", prompt="Say hello.")
    codes = [json.loads((await ask(address, body, key=lane.key)).body)["error"]["code"] for _ in range(6)]
    assert codes[0] == "upstream_unavailable"
    refused = await ask(address, body, key=lane.key)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "upstream_circuit_open")
    lane.cheap.accept_connections()
    await asyncio.sleep(float(refused.headers["retry-after"]))
    assert (await ask(address, body, key=lane.key)).status == 200
    metrics = (await get(lane.world.gateway.address("admin"), "/metrics")).body.decode()
    assert 'tollway_circuit_openings_total{reason="failing",upstream="cheap"} 1.0' in metrics
    assert 'tollway_circuits_open{upstream="cheap"} 0.0' in metrics
    assert 'tollway_circuits_open{upstream="dear"} 1.0' in metrics


async def test_upstream_that_names_another_model_changes_no_price(lane: Lane) -> None:
    """It is charged and recorded as what was asked for."""
    text = {"id": "c", "object": "chat.completion", "model": "gpt-5.5-pro-ultra", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ], "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}}  # fmt: skip
    lane.cheap.script(Behaviour(body=json.dumps(text).encode(), content_type="application/json"))
    answer = await ask(lane.world.gateway.address("api"), chat("lane"), key=lane.key)
    assert (answer.status, answer.headers["x-route-model"]) == (200, "cheap-model")
    await books.until_ended(lane.world.gateway)
    held = books.rows(lane.world.gateway, "SELECT model, charged, list FROM holds")
    assert held == [("lane", 11 * 3_000, 11 * 1_000)]
    assert books.rows(lane.world.gateway, "SELECT upstream, upstream_model FROM attempts") == [("cheap", "cheap-model")]
