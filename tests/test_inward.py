"""Exchanges of our own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.identity.plugin import IdentityPlugin, IdentitySettings
from proxy.chain import compose
from proxy.driver import Driver, DriverLimits
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, ListenerKind, Response, WhenLeft
from proxy.headers import Headers
from proxy.identities import IdentityKind
from proxy.inward import Inward, InwardCut
from proxy.keys import KeyRecord, UnknownKey
from proxy.listeners.api import Arrival
from proxy.operation_table import OperationTable
from proxy.operations import CHAT
from proxy.plugin import Next
from tests.support.fakes import Chunks, FakeClock, Log, exchange, generation, identity, origin

BODY = b'{"model":"gpt-4o"}'
RECORD = KeyRecord("key_1", "lld_0000", "nightly", "ann", "default", "acme", None, (), 0)


class Keys:
    """One key works, one does not, others never were."""

    def __init__(self, record: KeyRecord = RECORD) -> None:
        self.record = record

    def working(self, key_id: str) -> KeyRecord | None:
        if key_id == "key_revoked":
            return None
        if key_id != self.record.key_id:
            raise UnknownKey(key_id)
        return self.record


class House:
    """A driver around a chain of one plugin, `identity`, and a prepared end."""

    def __init__(self, end: Next, *, answer_bytes_max: int = 1000, keys: Keys | None = None) -> None:
        self.seen: list[Exchange] = []
        self.ended: list[Finish] = []
        self.log = Log()
        plugin = IdentityPlugin(IdentitySettings(), SimpleNamespace(keys=None))  # type: ignore[arg-type]
        chain = compose([plugin], end, self.log)
        self.driver = Driver(
            open_exchange=self._open,
            chain=lambda _: chain,
            limits=DriverLimits(60.0, 5.0, 1 << 20),
            request_id_header="x-tollway-request-id",
            on_open=self.seen.append,
            on_end=lambda _, reason: self.ended.append(reason),
            clock=FakeClock(),
            log=self.log,
        )
        self.inward = Inward(
            lambda: self.driver.serve, keys or Keys(), generation, answer_bytes_max=answer_bytes_max
        )  # fmt: skip

        self.inward.open()

    def _open(self, arrival: Arrival) -> Exchange:
        made = exchange(at=arrival.origin)
        made.request = arrival.request
        return made

    def begin(self) -> asyncio.Task[Any]:
        run = self.inward.run("POST", "/v1/chat/completions", BODY, self.inward.identity("key_1"))
        return asyncio.get_running_loop().create_task(run)


async def echo(seen: Exchange) -> Response:
    return Response.of(200, await seen.request.body(1000))


async def test_runs_the_whole_chain_for_the_holder_of_the_key() -> None:
    """The identity is the key's as it is now; the answer comes whole, with the id of the exchange."""
    house = House(echo)
    answer = await house.begin()
    seen = house.seen[0]
    assert (answer.status, answer.body, answer.headers["x-tollway-request-id"]) == (200, BODY, "req_test")
    assert seen.identity is not None
    assert (seen.identity.kind, seen.identity.key_id, seen.identity.key_name) == (IdentityKind.KEY, "key_1", "nightly")
    assert (seen.origin.listener, seen.origin.loopback) == ("inward", False)
    assert house.ended == [Finish.SERVED]


async def test_refusal_is_an_answer() -> None:
    """What the chain refuses comes back with its status."""

    async def refuse(_: Exchange) -> Response:
        raise Refusal("rate_limited", "Later.", retry_after_seconds=3)

    answer = await House(refuse).begin()
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("key_id", ["key_revoked", "key_unknown"])
async def test_key_that_works_no_more_is_nobody(key_id: str) -> None:
    """Revoked, expired or gone: refused before anything runs."""
    with pytest.raises(Refusal, match="invalid_api_key"):
        House(echo).inward.identity(key_id)


async def test_key_of_a_team_that_is_gone_is_nobody() -> None:
    """Teams are those of the configuration at this moment."""
    with pytest.raises(Refusal, match="no longer exists"):
        House(echo, keys=Keys(replace(RECORD, team="gone"))).inward.identity("key_1")


async def test_no_listener_can_act_for_somebody() -> None:
    """`acting` is believed of our own exchanges alone, and no other way in has them."""
    plugin = IdentityPlugin(IdentitySettings(), SimpleNamespace(keys=None))  # type: ignore[arg-type]
    for kind in (ListenerKind.REVERSE, ListenerKind.REGULAR, ListenerKind.ADMIN):
        seen = exchange(at=origin(kind=kind, loopback=False, acting=identity()))
        with pytest.raises(Refusal, match="invalid_api_key"):
            await plugin(seen, echo)


async def test_only_the_holder_of_a_key_has_exchanges_run() -> None:
    """There is nobody to charge afterwards else."""
    with pytest.raises(ValueError, match="holder of a key"):
        await House(echo).inward.run("POST", "/", b"", identity(kind=IdentityKind.PAYER))


def test_only_priced_operations_are_reachable() -> None:
    """An exchange of our own cannot start another batch, or read anything."""
    table = OperationTable()
    assert table.resolve("POST", "/v1/chat/completions", None, ListenerKind.INWARD).operation is CHAT
    for path in ("/v1/models", "/health", "/metrics"):
        with pytest.raises(Refusal, match="not_found"):
            table.resolve("GET", path, None, ListenerKind.INWARD)


async def test_cancelled_run_ends_its_exchange_as_a_client_that_left() -> None:
    """It returns once the exchange has ended."""
    inside = asyncio.Event()

    async def hang(seen: Exchange) -> Response:
        seen.dispatched, seen.when_left = True, WhenLeft.CANCEL
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    house = House(hang)
    run = house.begin()
    await inside.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert house.ended == [Finish.CLIENT_GONE]


async def test_run_cancelled_before_anybody_listens_ends_all_the_same() -> None:
    """Leaving may come before the exchange has taken its first step."""

    async def slow(_: Exchange) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    house = House(slow)
    run = house.begin()
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert house.ended == [Finish.CLIENT_GONE]


async def test_streamed_answer_is_collected_and_a_cut_one_is_none() -> None:
    """An answer is whole or there is none."""

    async def streamed(_: Exchange) -> Response:
        return Response(200, Headers(), stream=Chunks(b"data: 1\n\n", b"data: 2\n\n"), sse=True)

    assert (await House(streamed).begin()).body == b"data: 1\n\ndata: 2\n\n"
    with pytest.raises(InwardCut):
        await House(streamed, answer_bytes_max=10).begin()


async def test_closing_ends_what_runs_and_begins_nothing_more() -> None:
    """Both are told that the process ends, so that they can be tried again elsewhere."""
    inside = asyncio.Event()

    async def hang(_: Exchange) -> Response:
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    house = House(hang)
    run = house.begin()
    await inside.wait()
    await house.inward.close()
    for refused in (run, house.begin()):
        with pytest.raises(Refusal, match="draining"):
            await refused
    assert house.ended == [Finish.DRAINED]


async def test_what_begins_before_the_chain_stands_waits_for_it() -> None:
    """A plugin may have exchanges run from its start on."""
    house = House(echo)
    inward = Inward(lambda: house.driver.serve, Keys(), generation, answer_bytes_max=1000)
    run = asyncio.get_running_loop().create_task(inward.run("POST", "/", BODY, identity()))
    await asyncio.sleep(0)
    assert house.seen == []
    inward.open()
    assert (await run).status == 200
