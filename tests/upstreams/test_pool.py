"""Connections: TLS, where they go, how many there are, and how long they stay."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
import trustme

from proxy.upstreams import limits
from proxy.upstreams.api import Deadlines, FailureKind, Upstream
from proxy.upstreams.client import PooledClient
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.certificates import write_ca_file
from tests.peers.provider import OPENAI_KEY, ScriptedProvider
from tests.upstreams.test_client import begin, client, drain, failure_of, fetch, provider, send, upstream  # noqa: F401


@pytest.fixture
async def secure():
    """A provider with certificates for api.openai.com and api.anthropic.com."""
    async with ScriptedProvider(tls=True) as running:
        yield running


def openai_upstream(secure, tmp_path, **settings):
    """The real URL, connected to the provider instead."""
    return Upstream(
        "openai",
        "https://api.openai.com/v1",
        OPENAI_KEY,
        connect_to=secure.address,
        ca_file=str(write_ca_file(tmp_path)),
        **settings,
    )


async def test_connect_to_keeps_name_and_verification(secure, client, tmp_path):  # noqa: F811
    """Host and SNI are the URL's, though the connection goes elsewhere."""
    answer = await send(client, openai_upstream(secure, tmp_path))
    assert json.loads(await answer.read(1 << 20))["object"] == "chat.completion"
    assert secure.requests[0].header("host") == "api.openai.com"


@pytest.mark.parametrize("fault", [Fault.HALF_CLOSE_MID, Fault.RESET_MID, Fault.HANG_MID])
async def test_faults_are_named_under_tls_too(secure, client, tmp_path, fault):  # noqa: F811
    """The same kinds, encrypted."""
    secure.script(Behaviour(fault=fault))
    up = openai_upstream(secure, tmp_path, deadlines=Deadlines(idle_seconds=0.2))
    failure = await failure_of(drain(await send(client, up, stream=True)))
    assert failure.kind is (FailureKind.IDLE if fault is Fault.HANG_MID else FailureKind.BROKEN)


async def test_certificate_for_another_name_is_refused(secure, client, tmp_path):  # noqa: F811
    """connect_to does not weaken verification: the URL's name must be in the certificate."""
    up = replace(openai_upstream(secure, tmp_path), base_url="https://api.groq.com/openai/v1")
    failure = await failure_of(send(client, up))
    assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)
    assert secure.requests == []


async def test_unknown_authority_is_refused(secure, client, tmp_path):  # noqa: F811
    """Neither the system's store nor another ca_file vouches for the tests' authority."""
    up = openai_upstream(secure, tmp_path)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    for ca_file in (None, str(other)):
        failure = await failure_of(send(client, replace(up, ca_file=ca_file)))
        assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)
    assert secure.requests == []


async def test_missing_ca_file_is_a_connect_failure(secure, client, tmp_path):  # noqa: F811
    """Told, not fallen back from."""
    up = replace(openai_upstream(secure, tmp_path), ca_file=str(tmp_path / "absent.pem"))
    failure = await failure_of(send(client, up))
    assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)


async def test_unreadable_ca_file_is_a_connect_failure(secure, client, tmp_path):  # noqa: F811
    """A file that is no PEM is told as such."""
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    failure = await failure_of(send(client, replace(openai_upstream(secure, tmp_path), ca_file=str(broken))))
    assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)


async def test_host_argument_replaces_the_urls_host(secure, client, tmp_path):  # noqa: F811
    """Wildcard capture entries: Host, SNI and verification follow it, connections are not shared between hosts."""
    up = openai_upstream(secure, tmp_path)
    for host in (None, "api.anthropic.com", "api.anthropic.com"):
        await (await send(client, up, host=host)).read(1 << 20)
    assert [seen.header("host") for seen in secure.requests] == ["api.openai.com"] + ["api.anthropic.com"] * 2
    assert [seen.connection for seen in secure.requests] == [1, 2, 2]
    failure = await failure_of(send(client, up, host="evil.example"))
    assert failure.kind is FailureKind.CONNECT


async def test_never_more_connections_than_allowed(provider, client):  # noqa: F811
    """Twenty at once over three connections: all are answered, each in its turn."""
    provider.default = Behaviour(head_delay_seconds=0.005)
    up = upstream(provider, connections_max=3)
    bodies = await asyncio.gather(*(fetch(client, up) for _ in range(12)))
    assert len(bodies) == 12 and provider.connections == 3
    assert client.in_flight("scripted") == 0


async def test_waiting_for_a_connection_is_bounded_in_time(provider, client):  # noqa: F811
    """No turn within connect_seconds is BUSY, not sent; the one under way is not disturbed."""
    provider.script(Behaviour(fault=Fault.HANG_MID))
    up = upstream(provider, connections_max=1, deadlines=Deadlines(connect_seconds=0.1))
    first = await send(client, up, stream=True)
    failure = await failure_of(send(client, up))
    assert (failure.kind, failure.sent) == (FailureKind.BUSY, False)
    await first.aclose()
    assert (await send(client, up)).status == 200


async def test_waiting_for_a_connection_is_bounded_in_number(provider, client):  # noqa: F811
    """Past the limit of waiters the answer is immediate."""
    provider.script(Behaviour(fault=Fault.HANG_MID))
    up = upstream(provider, connections_max=1)
    first = await send(client, up, stream=True)
    waiting = [begin(fetch(client, up)) for _ in range(limits.WAITING_PER_CONNECTION_MAX)]
    await asyncio.sleep(0)
    failure = await failure_of(send(client, up))
    assert failure.kind is FailureKind.BUSY and "wait" in failure.detail
    await first.aclose()
    assert [body["object"] for body in await asyncio.gather(*waiting)] == ["chat.completion"] * len(waiting)


async def test_cancelled_waiters_lose_no_turn(provider, client):  # noqa: F811
    """Cancelled before or as its turn comes: the next one gets it."""
    provider.script(Behaviour(fault=Fault.HANG_MID))
    up = upstream(provider, connections_max=1)
    first = await send(client, up, stream=True)
    waiting = [begin(fetch(client, up)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await first.aclose()
    waiting[1].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, True, False]
    assert results[2]["object"] == "chat.completion"
    assert client.in_flight("scripted") == 0


async def test_idle_connections_to_other_hosts_make_room(secure, client, tmp_path):  # noqa: F811
    """The cap counts idle connections: the oldest goes where a new one is needed."""
    up = openai_upstream(secure, tmp_path, connections_max=1)
    for host in (None, "api.anthropic.com", None):
        await (await send(client, up, host=host)).read(1 << 20)
    assert secure.connections == 3


async def test_idle_connections_are_closed_after_a_while(provider, client, monkeypatch):  # noqa: F811
    """Nothing stays open for ever."""
    monkeypatch.setattr(limits, "KEEPALIVE_SECONDS", 0.05)
    up = upstream(provider)
    await (await send(client, up)).read(1 << 20)
    await provider.until(lambda: not provider.open_connections)
    assert (await send(client, up)).status == 200


async def test_changed_upstream_gets_connections_of_its_own(provider, client):  # noqa: F811
    """A reload that moves an upstream does not reuse what leads to the old place; an equal one does."""
    up = upstream(provider)
    await (await send(client, up)).read(1 << 20)
    await (await send(client, replace(up, key="another"))).read(1 << 20)
    assert provider.connections == 1
    async with ScriptedProvider() as moved:
        await (await send(client, replace(up, base_url=moved.url + "/v1"))).read(1 << 20)
        assert (moved.connections, len(provider.requests)) == (1, 2)


async def test_many_plain_targets_are_forgotten(provider, client, monkeypatch):  # noqa: F811
    """Pools of one-off targets are bounded, and their idle connections closed."""
    monkeypatch.setattr(limits, "POOLS_MAX", 3)
    for number in range(6):
        up = Upstream("plain", f"http://host{number}.example", None, connect_to=provider.address)
        await (await send(client, up)).read(1 << 20)
    await provider.until(lambda: provider.open_connections <= 3)
    assert {seen.header("host") for seen in provider.requests} == {f"host{number}.example" for number in range(6)}


async def test_close_ends_what_is_under_way(provider):  # noqa: F811
    """Exchanges under way end as broken; nothing stays open."""
    pooled = PooledClient()
    provider.script(Behaviour(fault=Fault.HANG_MID))
    answer = await send(pooled, upstream(provider), stream=True)
    await anext(answer)
    await pooled.close()
    failure = await failure_of(drain(answer))
    assert failure.kind is FailureKind.BROKEN
    await provider.until(lambda: not provider.open_connections)
