"""The disk takes nothing any more, then does again: closed for what costs money, open for the rest, nothing lost.

The limit on the size of files that a process may write stands in for a full disk: every write of the proxy's to
a file fails, to its ledger, its log and its audit log alike.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.ledger.books import State
from tests.faults import books
from tests.faults.crowd import Client, ask, chat, cost_nano, get, hold_nano
from tests.peers.behaviour import Behaviour, Fault
from tests.support.raw import request
from tests.support.world import CHAIN, World, world

WORDS = 40
MAX_TOKENS = 50
STREAM = chat(max_tokens=MAX_TOKENS, stream=True)
FULL = hold_nano(STREAM, MAX_TOKENS)
COST = cost_nano(2, WORDS)
HANGING = Behaviour(chunks=WORDS, fault=Fault.HANG_MID, after_chunks=5)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[World]:
    """A proxy whose audit log has a folder of its own."""
    audit = tmp_path / "audit" / "audit.jsonl"
    audit.parent.mkdir()
    chain = [{"audit": {"path": str(audit)}} if plugin == "audit" else plugin for plugin in CHAIN]
    with world(tmp_path, config={"chain": chain, "drain_seconds": 0.5}) as started:
        yield started


def fill(running: World) -> None:
    """From now on no write to a file succeeds."""
    _, hard = resource.prlimit(running.gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.gateway.pid, resource.RLIMIT_FSIZE, (0, hard))


def free(running: World) -> None:
    """There is space again."""
    _, hard = resource.prlimit(running.gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.gateway.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def assert_closed_but_up(running: World, key: str) -> None:
    """What costs money is refused, the rest is served, the provider hears of nothing."""
    api, before = running.gateway.address("api"), len(running.provider.requests)
    for _ in range(5):
        refused = await ask(api, chat(), key=key)
        assert (refused.status, refused.code) == (503, "overloaded"), refused.body
        assert int(refused.headers["retry-after"]) >= 1
    assert len(running.provider.requests) == before
    for listener, path in (("api", "/health"), ("api", "/v1/health"), ("admin", "/health"), ("admin", "/metrics")):
        assert (await get(running.gateway.address(listener), path)).status == 200
    assert (await ask(api, chat(), key="lld_" + "0" * 32)).status == 401
    async with Client(api) as client:
        assert (await client.ask(request(path="/v1/models", method="GET", key=key))).status == 200


async def recovers(running: World, key: str) -> None:
    """Within a few seconds of the ledger's next try, and without a restart."""

    async def served() -> bool:
        answer = await ask(running.gateway.address("api"), chat(), key=key)
        assert answer.status in (200, 503)
        return answer.status == 200

    async with asyncio.timeout(books.SECONDS_MAX):
        while not await served():
            await asyncio.sleep(0.1)


async def test_a_full_disk_closes_priced_paths_and_opens_them_when_there_is_space(running: World) -> None:
    """503 overloaded with nothing forwarded; health and models go on; every exchange is in the audit log at last."""
    gateway = running.gateway
    key = books.make_key(gateway)
    assert (await ask(gateway.address("api"), chat(), key=key)).status == 200
    fill(running)
    await assert_closed_but_up(running, key)
    free(running)
    await recovers(running, key)
    await books.until_ended(gateway)
    books.assert_clean(gateway)
    books.assert_quiet(gateway)
    assert [hold.outcome for hold in books.holds(gateway)] == ["served"] * 2
    lines = gateway.folder / "audit" / "audit.jsonl"
    await books.until(lambda: lines.read_text().count('"overloaded"') >= 5, "the refusals are not in the audit log")


async def test_streams_that_run_while_the_disk_fills_up_are_finished_and_settled(running: World) -> None:
    """Their ends are kept until they can be written: charged what they cost, nothing open, nothing lost."""
    gateway = running.gateway
    running.provider.default = Behaviour(chunks=WORDS, delay_seconds=0.02)
    key = books.make_key(gateway)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(gateway.address("api"))) for _ in range(10)]
        for client in clients:
            await client.send(request(STREAM, key=key))
        await asyncio.gather(*(client.until(b'"content":"w') for client in clients))
        fill(running)
        for client in clients:
            assert await client.head() == 200
            assert (await client.rest()).body.endswith(b"data: [DONE]\n\n")
        await assert_closed_but_up(running, key)
    assert books.open_count(gateway) == 10
    free(running)
    await books.until_ended(gateway)
    ended = {(hold.state, hold.outcome, hold.charged) for hold in books.holds(gateway)}
    assert ended == {(State.SETTLED, "served", COST)}
    running.provider.default = Behaviour()
    await recovers(running, key)
    books.assert_clean(gateway)
    books.assert_quiet(gateway)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "drained"])
async def test_a_proxy_that_ends_on_a_full_disk_is_put_right_by_the_next_start(running: World, killed: bool) -> None:
    """What could not be written counts in full; the drain does not hang."""
    gateway = running.gateway
    running.provider.default = HANGING
    key = books.make_key(gateway)
    async with Client(gateway.address("api")) as client:
        await client.send(request(STREAM, key=key))
        await client.until(b'"content":"w')
        fill(running)
        if killed:
            gateway.kill()
        else:
            assert await asyncio.to_thread(gateway.stop) == 0
    gateway.start()
    assert [(hold.state, hold.outcome, hold.charged) for hold in books.holds(gateway)] == [
        (State.SETTLED, "crashed", FULL)
    ]
    running.provider.default = Behaviour()
    assert (await ask(gateway.address("api"), chat(), key=key)).status == 200
    await books.until_ended(gateway)
    books.assert_clean(gateway)


async def test_an_audit_log_that_cannot_be_written_does_not_stop_service(running: World) -> None:
    """Lines wait in memory, the log says so once, and they are written when that is possible again."""
    gateway = running.gateway
    key = books.make_key(gateway)
    folder = gateway.folder / "audit"
    shutil.rmtree(folder)
    answers = [await ask(gateway.address("api"), chat(), key=key) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    await books.until(lambda: "lines_not_written" in gateway.log(), "nothing was said about it")
    assert gateway.log().count("lines_not_written") == 1
    assert not folder.exists()
    folder.mkdir()
    served = {answer.headers["x-tollway-request-id"] for answer in answers}
    lines = folder / "audit.jsonl"
    await books.until(
        lambda: lines.exists() and all(request_id in lines.read_text() for request_id in served),
        "lines are missing from the audit log",
    )
    books.assert_quiet(gateway)
