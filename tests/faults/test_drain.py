"""SIGTERM and SIGINT: readiness first, no new exchanges, running ones finish or are cut, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.ledger.books import State
from tests.faults import books
from tests.faults.crowd import Client, chat, cost_nano, get, hold_nano
from tests.peers.behaviour import Behaviour, Fault
from tests.support.raw import request
from tests.support.world import World, world

STREAMS = 20
WORDS = 40
MAX_TOKENS = 50
STREAM = chat(max_tokens=MAX_TOKENS, stream=True)
FIRST_WORD = b'"content":"w'
DONE = b"data: [DONE]\n\n"
AT_ONCE_SECONDS = 12
"""Far below the drain's deadline where a test sets none, far above what a busy machine needs."""
HANGING = Behaviour(chunks=WORDS, fault=Fault.HANG_MID, after_chunks=5)
TAKING_A_SECOND = Behaviour(chunks=WORDS, delay_seconds=0.025)


@pytest.fixture
def draining(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A proxy that gives running exchanges as long as `@deadline(seconds)` says, else 30 s."""
    seconds = getattr(request, "param", 30)
    with world(tmp_path, config={"drain_seconds": seconds, "drain_client_gone_seconds": 20}) as running:
        yield running


def deadline(seconds: float) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("draining", [seconds], indirect=True, ids=[f"{seconds}s"])


async def streams(running: World, key: str, stack: AsyncExitStack) -> list[Client]:
    """Clients in the middle of their streams."""
    clients = [await stack.enter_async_context(Client(running.gateway.address("api"))) for _ in range(STREAMS)]
    for client in clients:
        await client.send(request(STREAM, key=key))
    await asyncio.gather(*(client.until(FIRST_WORD) for client in clients))
    return clients


async def unready(running: World, admin: Client) -> None:
    """Return once /health says so, on a connection that is kept alive."""
    while (answer := await admin.ask(request(path="/health", method="GET"))).status != 503:
        assert answer.status == 200
        await asyncio.sleep(0.005)
    assert answer.json() == {"status": "draining", "ready": False}
    assert "retry-after" in answer.headers
    assert (await get(running.gateway.address("admin"), "/metrics")).status == 200


async def exit_status(running: World) -> int:
    return await asyncio.to_thread(running.gateway.wait)


def assert_ended(running: World, expected: dict[tuple[State, str, int], int]) -> None:
    """How every hold ended, and that nothing was lost or left."""
    ended = Counter((hold.state, hold.outcome, hold.charged) for hold in books.holds(running.gateway))
    assert ended == expected
    assert books.rows(running.gateway, "SELECT count(*) FROM boots") == [(0,)]
    books.assert_quiet(running.gateway)
    books.assert_clean(running.gateway)


FULL = hold_nano(STREAM, MAX_TOKENS)
COST = cost_nano(2, WORDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_running_streams_finish_and_nothing_new_is_taken(draining: World, number: int) -> None:
    """Readiness first; idle connections end, new ones are refused; each stream comes to its regular end; status 0."""
    gateway = draining.gateway
    draining.provider.default = TAKING_A_SECOND
    api = gateway.address("api")
    key = books.make_key(gateway)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Client(gateway.address("admin")))
        idle = await stack.enter_async_context(Client(api))
        assert (await idle.ask(request(path="/health", method="GET"))).status == 200
        clients = await streams(draining, key, stack)
        gateway.signal(number)
        await unready(draining, admin)
        assert await idle.ended() == b""
        with pytest.raises(ConnectionRefusedError):
            await get(api, "/health")
        await clients[0].send(request(STREAM, key=key))
        answers = await asyncio.gather(*(client.ended() for client in clients))
        assert await exit_status(draining) == 0
    for answer in answers:
        assert answer.count(FIRST_WORD) == WORDS
        assert answer.count(DONE) == 1 and answer.endswith(b"0\r\n\r\n")
    assert len(draining.provider.requests) == STREAMS
    assert_ended(draining, {(State.SETTLED, "served", COST): STREAMS})


@deadline(1)
async def test_streams_beyond_the_deadline_are_cut_and_settled(draining: World) -> None:
    """The client sees the cut; what may have been generated unseen is charged in full; status 0."""
    gateway = draining.gateway
    draining.provider.default = HANGING
    key = books.make_key(gateway)
    async with AsyncExitStack() as stack:
        clients = await streams(draining, key, stack)
        started = time.monotonic()
        gateway.signal(signal.SIGTERM)
        answers = await asyncio.gather(*(client.ended() for client in clients))
        assert await exit_status(draining) == 0
        assert 1 <= time.monotonic() - started < AT_ONCE_SECONDS
    assert not any(answer.endswith(b"0\r\n\r\n") or DONE in answer for answer in answers)
    assert_ended(draining, {(State.SETTLED, "drained", FULL): STREAMS})


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
)
async def test_a_second_signal_ends_the_drain_at_once(draining: World, first: int, second: int) -> None:
    """Half a minute would be left; holds are settled all the same."""
    gateway = draining.gateway
    draining.provider.default = HANGING
    key = books.make_key(gateway)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Client(gateway.address("admin")))
        clients = await streams(draining, key, stack)
        gateway.signal(first)
        await unready(draining, admin)
        started = time.monotonic()
        gateway.signal(second)
        assert await exit_status(draining) == 0
        assert time.monotonic() - started < AT_ONCE_SECONDS
        await asyncio.gather(*(client.ended() for client in clients))
    assert_ended(draining, {(State.SETTLED, "drained", FULL): STREAMS})


async def test_an_answer_whose_client_left_is_read_on_during_the_drain(draining: World) -> None:
    """Its usage is still worth having: it is settled by what it cost, not in full."""
    gateway = draining.gateway
    draining.provider.default = TAKING_A_SECOND
    key = books.make_key(gateway)
    async with AsyncExitStack() as stack:
        for client in await streams(draining, key, stack):
            client.leave()
        gateway.signal(signal.SIGTERM)
        assert await exit_status(draining) == 0
    assert_ended(draining, {(State.SETTLED, "client_gone", COST): STREAMS})


async def test_an_upload_under_way_is_served_during_the_drain(draining: World) -> None:
    """Its exchange had begun: it has the deadline to come to its end; the connection closes after it."""
    gateway = draining.gateway
    key = books.make_key(gateway)
    raw = request(chat(max_tokens=MAX_TOKENS, prompt="word " * 20_000), key=key)
    async with Client(gateway.address("admin")) as admin, Client(gateway.address("api")) as client:
        await client.send(raw[:50_000])
        await until_in_flight(draining)
        gateway.signal(signal.SIGTERM)
        await unready(draining, admin)
        answer = await client.ask(raw[50_000:])
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.ended() == b""
    assert await exit_status(draining) == 0
    assert [hold.outcome for hold in books.holds(gateway)] == ["served"]
    books.assert_quiet(gateway)


async def until_in_flight(running: World) -> None:
    """Return once a metric says that an exchange runs (beside the one that reads the metric)."""
    while True:
        text = (await get(running.gateway.address("admin"), "/metrics")).body.decode()
        counts = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("tollway_in_flight")]
        if sum(counts) >= 2:
            return
        await asyncio.sleep(0.01)


class Load:
    """Connections that send one request after the other, as a load generator does, until they are cut."""

    def __init__(self, running: World, key: str) -> None:
        self._address = running.gateway.address("api")
        self._data = request(chat(max_tokens=MAX_TOKENS), key=key)
        self._clients: set[Client] = set()
        self.served = 0

    async def run(self) -> None:
        """One connection's life."""
        async with Client(self._address) as client:
            self._clients.add(client)
            with contextlib.suppress(OSError):
                while True:
                    assert (await client.ask(self._data)).status == 200
                    self.served += 1

    def cut(self) -> None:
        """All at once, whatever they wait for."""
        for client in self._clients:
            client.leave()


@pytest.mark.parametrize("served", [50, 151])
async def test_a_signal_right_after_a_load_was_cut_loses_no_hold(draining: World, served: int) -> None:
    """Drivers of gone clients are anywhere between hold and settlement: each hold ends, on the books."""
    gateway = draining.gateway
    load = Load(draining, books.make_key(gateway))
    clients = [asyncio.create_task(load.run()) for _ in range(32)]
    while load.served < served:
        await asyncio.sleep(0)
    load.cut()
    gateway.signal(signal.SIGINT)
    await asyncio.gather(*clients)
    assert await exit_status(draining) == 0
    assert books.open_count(gateway) == 0
    assert sum(hold.outcome == "served" for hold in books.holds(gateway)) >= served
    books.assert_quiet(gateway)
    books.assert_clean(gateway)
