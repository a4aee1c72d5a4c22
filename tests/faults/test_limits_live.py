"""Limits over HTTP: who is refused, when exactly to come back, and that coming back then works."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults import books
from tests.faults.crowd import Client, ask, chat
from tests.peers.behaviour import Behaviour, Fault
from tests.support.raw import Answer, request
from tests.support.world import MODELS, TEAMS, World, world

SHIPPED = Path(__file__).parents[2] / "policies" / "limits.yaml"
SHIPPED_TIERS = SHIPPED.with_name("tiers.yaml")
BURST = 25
PER_MINUTE = 120
"""By key, as shipped."""
STREAMS_BY_IP = 5
STREAMS_IN_TOTAL = 8
REQUESTS_BY_IP = 50
TIERS: dict[str, Any] = {
    "standard": {},
    "two-in-six-seconds": {"requests": {"per_minute": 600, "burst": 2, "burst_seconds": 6}},
    "thirty-a-minute": {"requests": {"per_minute": 30, "burst": 30, "burst_seconds": 1}},
    "600-tokens-a-minute": {"tokens_per_minute": 600},
    "two-streams": {"streams": 2},
}
HANGING = Behaviour(chunks=40, fault=Fault.HANG_MID, after_chunks=5)
STREAM = chat(stream=True)
_HOSTS = itertools.count(1)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The limits that a new operator has."""
    policies = {"limits": yaml.safe_load(SHIPPED.read_text()), "tiers": {"tiers": {"standard": {}, "pro": {}}}}
    with world(tmp_path_factory.mktemp("shipped"), policies=policies) as running:
        yield running


@pytest.fixture
def sold(tmp_path: Path) -> Iterator[World]:
    """The shipped limits with the shipped tiers."""
    tiers = yaml.safe_load(SHIPPED_TIERS.read_text())["tiers"]
    policies = {"limits": yaml.safe_load(SHIPPED.read_text()), "tiers": {"tiers": {**TIERS, **tiers}}}
    policies["models"] = {"models": {name: {**entry, "tiers": []} for name, entry in MODELS.items()}}
    policies["teams"] = {**TEAMS, "teams": {"default": {**TEAMS["teams"]["default"], "tier": "starter"}}}
    with world(tmp_path, policies=policies) as running:
        yield running


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Small limits, each by a tier of its own."""
    limits = {
        "ip": {
            "streams": STREAMS_BY_IP,
            "requests": {"per_minute": 600, "burst": REQUESTS_BY_IP, "burst_seconds": 10},
        },
        "total_streams": STREAMS_IN_TOTAL,
    }
    policies: dict[str, Any] = {"limits": limits, "tiers": {"tiers": TIERS | {"pro": {}}}}
    folder = tmp_path_factory.mktemp("tight")
    with world(folder, policies=policies, config={"drain_client_gone_seconds": 0.5}) as running:
        yield running


@pytest.fixture(autouse=True)
async def forgetful(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After each test the provider is itself again, and nothing is under way."""
    yield
    for name in ("shipped", "tight"):
        if name in request.fixturenames:
            running: World = request.getfixturevalue(name)
            running.provider.reset()
            running.provider.drop_connections()
            await books.until_ended(running.gateway)


@pytest.fixture
def host() -> str:
    """An address of one's own on loopback, with limits of its own."""
    return f"127.0.7.{next(_HOSTS)}"


def key_of_tier(running: World, tier: str) -> str:
    return books.make_key(running.gateway, tier=tier)


async def send(running: World, key: str, host: str, body: bytes | None = None) -> Answer:
    return await ask(running.gateway.address("api"), body or chat(), key=key, source=host)


def retry_after(answer: Answer, code: str = "rate_limited") -> int:
    """The header of a 429, which says what its message says."""
    assert (answer.status, answer.code) == (429, code), answer.body
    seconds = int(answer.headers["retry-after"])
    if code == "rate_limited":
        message = answer.json()["error"]["message"]
        said = float(message.rpartition("Try again in ")[2].removesuffix(" s."))
        assert seconds - 1.05 <= said <= seconds + 0.05, message
    return seconds


async def test_the_shipped_burst_by_key(shipped: World, host: str) -> None:
    """25 in 10 s pass, and what trickles in meanwhile; the next may come in 0.4 s, which is a whole second."""
    key, other = (key_of_tier(shipped, "standard") for _ in range(2))
    started = time.monotonic()
    answers: list[Answer] = []
    while len(answers) < 2 * BURST:
        answers += await asyncio.gather(*(send(shipped, key, host) for _ in range(10)))
    took = time.monotonic() - started
    statuses = Counter(answer.status for answer in answers)
    assert statuses.keys() == {200, 429}
    assert BURST <= statuses[200] <= BURST + 1 + took * BURST / 10
    assert {retry_after(answer) for answer in answers if answer.status == 429} == {1}
    assert len(shipped.provider.requests) == statuses[200]
    assert (await send(shipped, other, host)).status == 200
    await asyncio.sleep(1)
    assert (await send(shipped, key, host)).status == 200


async def test_the_shipped_limits_are_the_documented_ones() -> None:
    """120 a minute, 25 in 10 s by key."""
    requests = yaml.safe_load(SHIPPED.read_text())["key"]["requests"]
    assert requests == {"per_minute": PER_MINUTE, "burst": BURST, "burst_seconds": 10}


@pytest.mark.parametrize(("tier", "burst"), [("free-trial", 250), ("demo", 250), ("starter", 25), ("pro", 25)])
async def test_the_shipped_burst_by_tier(sold: World, host: str, tier: str, burst: int) -> None:
    """Trial and demo accounts get ten times the requests of the others, and no other shipped limit is in the way."""
    key = key_of_tier(sold, tier)
    started = time.monotonic()
    statuses: Counter[int] = Counter()
    while statuses.total() < burst + 20:
        statuses.update([answer.status for answer in await asyncio.gather(*(send(sold, key, host) for _ in range(5)))])
    took = time.monotonic() - started
    assert statuses.keys() == {200, 429}
    assert burst <= statuses[200] <= burst + 1 + took * burst / 10


async def test_the_shipped_streams_by_key(shipped: World, host: str) -> None:
    """Twenty under way; one more is refused until one of them ends."""
    shipped.provider.default = HANGING
    key = key_of_tier(shipped, "standard")
    async with AsyncExitStack() as stack:
        await begin(shipped, stack, key, host, 20)
        refused = await send(shipped, key, host, STREAM)
        assert retry_after(refused, "too_many_streams") == 1
        assert len(shipped.provider.requests) == 20


async def test_retry_after_is_exact(tight: World, host: str) -> None:
    """Two in six seconds: the third may come after three; sooner it is told the rest, then it passes."""
    key = key_of_tier(tight, "two-in-six-seconds")
    started = time.monotonic()
    assert [(await send(tight, key, host)).status for _ in range(2)] == [200, 200]
    refused = await send(tight, key, host)
    first = retry_after(refused)
    assert math.ceil(3 - (time.monotonic() - started)) <= first <= 3
    await asyncio.sleep(first - 1.5)
    again = await send(tight, key, host)
    assert retry_after(again) in (1, 2)
    await asyncio.sleep(retry_after(again))
    assert (await send(tight, key, host)).status == 200
    assert len(tight.provider.requests) == 3


async def test_requests_a_minute(tight: World, host: str) -> None:
    """Thirty are there to be used at once; the next comes two seconds later."""
    key = key_of_tier(tight, "thirty-a-minute")
    answers = await asyncio.gather(*(send(tight, key, host, chat("demo")) for _ in range(STREAMS_BY_IP)))
    served = len(answers)
    while (answer := await send(tight, key, host, chat("demo"))).status == 200:
        served += 1
    assert 30 <= served <= 32
    wait = retry_after(answer)
    assert wait in (1, 2)
    await asyncio.sleep(wait)
    assert (await send(tight, key, host, chat("demo"))).status == 200


async def test_tokens_a_minute(tight: World, host: str) -> None:
    """600 tokens a minute: two answers of 2 + 174 leave 248; the next takes body/4 + 1 + 250 until its end is known."""
    key = key_of_tier(tight, "600-tokens-a-minute")
    tight.provider.default = Behaviour(chunks=174)
    body = chat(max_tokens=250)
    need = len(body) // 4 + 250 + 1
    started = time.monotonic()
    assert [(await send(tight, key, host, body)).status for _ in range(2)] == [200, 200]
    refused = await send(tight, key, host, body)
    longest = (need - (600 - 2 * 176)) / 10
    took = time.monotonic() - started
    assert 2 < longest < 4
    wait = retry_after(refused)
    assert math.ceil(longest - took) <= wait <= math.ceil(longest)
    assert (await send(tight, key, host, chat(max_tokens=10))).status == 200
    await asyncio.sleep(wait + 1.2)
    assert (await send(tight, key, host, chat(max_tokens=60))).status == 200


async def test_requests_by_address_are_refused_before_anybody_is_known(tight: World, host: str) -> None:
    """Guessing keys ends with 429; from another address a right key works."""
    key = key_of_tier(tight, "standard")
    statuses = Counter(
        [(await send(tight, "lld_" + f"{number:032x}", host)).status for number in range(2 * REQUESTS_BY_IP)]
    )
    assert statuses.keys() == {401, 429}
    assert statuses[401] >= REQUESTS_BY_IP
    assert retry_after(await send(tight, key, host)) == 1
    assert (await send(tight, key, f"127.0.8.{next(_HOSTS)}")).status == 200


async def begin(running: World, stack: AsyncExitStack, key: str, host: str, count: int) -> list[Client]:
    """`count` streams from that address, each in its midst."""
    clients = []
    for _ in range(count):
        client = await stack.enter_async_context(Client(running.gateway.address("api"), source=host))
        await client.send(request(STREAM, key=key))
        clients.append(client)
    for client in clients:
        await client.until(b'"content":"w')
    return clients


async def passes(running: World, key: str, host: str) -> None:
    """Within a moment a request is no longer refused."""
    until = time.monotonic() + 10
    while (answer := await send(running, key, host)).status == 429 and time.monotonic() < until:
        retry_after(answer, "too_many_streams")
        await asyncio.sleep(0.1)
    assert answer.status == 200


async def test_streams_by_key(tight: World, host: str) -> None:
    """Two under way by one key; a third waits until one has ended. Another key has its own."""
    tight.provider.script(HANGING, HANGING)
    key, other = (key_of_tier(tight, "two-streams") for _ in range(2))
    async with AsyncExitStack() as stack:
        first, _ = await begin(tight, stack, key, host, 2)
        refused = await send(tight, key, host)
        assert retry_after(refused, "too_many_streams") == 1
        assert "Your key" in refused.json()["error"]["message"]
        assert (await send(tight, other, host)).status == 200
        first.leave()
        await passes(tight, key, host)


async def test_streams_by_address_and_in_total(tight: World, host: str) -> None:
    """Five from one address, eight altogether, whoever's keys they are."""
    tight.provider.script(*[HANGING] * STREAMS_IN_TOTAL)
    keys = [key_of_tier(tight, "standard") for _ in range(2)]
    second, third = (f"127.0.9.{next(_HOSTS)}" for _ in range(2))
    async with AsyncExitStack() as stack:
        first, *_ = await begin(tight, stack, keys[0], host, STREAMS_BY_IP)
        refused = await send(tight, keys[1], host)
        assert retry_after(refused, "too_many_streams") == 1
        assert "Your address" in refused.json()["error"]["message"]
        await begin(tight, stack, keys[1], second, STREAMS_IN_TOTAL - STREAMS_BY_IP)
        refused = await send(tight, keys[1], third)
        assert retry_after(refused, "too_many_streams") == 1
        assert "This proxy" in refused.json()["error"]["message"]
        assert len(tight.provider.requests) == STREAMS_IN_TOTAL
        first.leave()
        await passes(tight, keys[1], third)
