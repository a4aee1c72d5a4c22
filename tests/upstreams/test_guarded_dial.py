"""Where a customer's base URL may lead: a fake resolver says where names are, sockets are real."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from proxy import addresses
from proxy.headers import Headers
from proxy.upstreams import limits, wire
from proxy.upstreams.api import FailureKind, Upstream, UpstreamFailure, UpstreamResponse
from proxy.upstreams.client import PooledClient
from proxy.upstreams.guard import LOOKUPS_AT_ONCE_MAX, PublicResolver, public_socket
from tests.peers.behaviour import Behaviour
from tests.peers.certificates import write_ca_file
from tests.peers.provider import OPENAI_KEY, ScriptedProvider

REAL_IS_PUBLIC = addresses.is_public
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111"]
INSIDE = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.5.4", "192.168.0.1", "169.254.169.254", "100.64.1.1",
    "100.100.100.200", "192.0.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "fec0::1", "2606:4700:4700::1111%1",
]  # fmt: skip


class Names:
    """A resolver that answers as scripted, and counts."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def say(self, host: str, *answers: list[str]) -> None:
        """Each look-up takes the next answer; the last one stays."""
        self.answers[host] = list(answers)

    async def __call__(self, host: str, port: int, **_: Any) -> list[addresses.Address]:
        self.asked.append(host)
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            found = self.answers.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [ipaddress.ip_address(text) for text in (found.pop(0) if len(found) > 1 else found[0])]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """No test here asks a real resolver."""
    scripted = Names()
    monkeypatch.setattr(addresses, "resolve", scripted)
    return scripted


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for a public server; every other address is judged as ever."""
    stand_in = ipaddress.ip_address("127.0.0.1")
    monkeypatch.setattr(addresses, "is_public", lambda address: address == stand_in or REAL_IS_PUBLIC(address))


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that a socket was made for."""
    seen: list[Any] = []

    def watched(info: Any) -> socket.socket:
        made = public_socket(info)
        seen.append(info[4])
        return made

    monkeypatch.setattr(wire, "public_socket", watched)
    return seen


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as running:
        yield running


@pytest.fixture
async def secure() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(tls=True) as running:
        yield running


@pytest.fixture
async def client(provider: ScriptedProvider, secure: ScriptedProvider) -> AsyncIterator[PooledClient]:
    """Closed before the providers are."""
    made = PooledClient()
    yield made
    await made.close()


def guarded(url: str, name: str = "byo:1", **changes: Any) -> Upstream:
    """A customer's own base URL."""
    return Upstream(name, url, OPENAI_KEY, public_only=True, **changes)


async def call(client: PooledClient, upstream: Upstream) -> UpstreamResponse:
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = Headers({"authorization": f"Bearer {upstream.key}", "content-type": "application/json"})
    return await client.send(upstream, method="POST", path="/v1/chat/completions", headers=headers, body=body)


async def failure_of(client: PooledClient, upstream: Upstream) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await call(client, upstream)
    return caught.value


@pytest.mark.parametrize("address", INSIDE)
async def test_a_name_that_leads_inside_is_not_dialled(
    address: str, client: PooledClient, names: Names, dialled: list[Any]
) -> None:
    """Alone or among public addresses, first or last; the client is told nothing but that it failed."""
    for answer in ([address], ["1.1.1.1", address], [address, "1.1.1.1"]):
        names.say("llm.example.com", answer)
        failure = await failure_of(client, guarded("https://llm.example.com/v1"))
        assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)
    assert dialled == []


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"])
async def test_an_address_in_the_url_is_judged_too(
    host: str, client: PooledClient, names: Names, dialled: list[Any]
) -> None:
    """Nobody looks it up, so the socket itself is judged."""
    failure = await failure_of(client, guarded(f"http://{host}:9/v1"))
    assert (failure.kind, failure.sent) == (FailureKind.CONNECT, False)
    assert dialled == []


@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "127.1", "localhost", "localhost.", "a.localhost", "LOCALHOST"]
)
async def test_other_spellings_of_loopback_are_not_dialled(
    host: str, client: PooledClient, names: Names, dialled: list[Any]
) -> None:
    """Whatever a resolver makes of them, as getaddrinfo really does of some."""
    names.say(host, ["127.0.0.1"])
    names.say(host.lower(), ["127.0.0.1"])
    with pytest.raises((UpstreamFailure, ValueError)):
        await call(client, guarded(f"http://{host}:9/v1"))
    assert dialled == []


async def test_the_real_resolver_is_guarded_too(client: PooledClient, dialled: list[Any]) -> None:
    """localhost, as this machine knows it."""
    failure = await failure_of(client, guarded("http://localhost:9/v1"))
    assert failure.kind is FailureKind.CONNECT
    assert dialled == []


@pytest.mark.usefixtures("loopback_is_public")
async def test_the_address_judged_is_the_address_dialled(
    client: PooledClient, names: Names, provider: ScriptedProvider, dialled: list[Any]
) -> None:
    """One look-up for a connection: an answer that changes meanwhile (DNS rebinding) is never asked for."""
    names.say("llm.example.com", ["127.0.0.1"], ["10.0.0.1"])
    answer = await call(client, guarded(f"http://llm.example.com:{provider.port}/v1"))
    assert answer.status == 200
    await answer.read(1 << 20)
    assert names.asked == ["llm.example.com"]
    assert dialled == [("127.0.0.1", provider.port)]
    assert provider.requests[0].header("host") == f"llm.example.com:{provider.port}"


@pytest.mark.usefixtures("loopback_is_public")
async def test_each_new_connection_is_judged_again(
    client: PooledClient, names: Names, provider: ScriptedProvider
) -> None:
    """A name that was public once and has been rebound since is refused at the next connection."""
    names.say("llm.example.com", ["127.0.0.1"], ["10.0.0.1"])
    upstream = guarded(f"http://llm.example.com:{provider.port}/v1")
    await (await call(client, upstream)).read(1 << 20)
    await (await call(client, upstream)).read(1 << 20)
    assert (provider.connections, names.asked) == (1, ["llm.example.com"])
    provider.drop_connections()
    failure = await failure_of(client, upstream)
    assert failure.kind is FailureKind.CONNECT
    assert names.asked == ["llm.example.com"] * 2
    assert provider.connections == 1


@pytest.mark.usefixtures("loopback_is_public")
async def test_tls_is_for_the_name_and_not_for_the_address(
    client: PooledClient, names: Names, secure: ScriptedProvider, tmp_path: Any
) -> None:
    """SNI, certificate and Host are the URL's; a certificate for another name is refused."""
    ca_file = str(write_ca_file(tmp_path))
    for host in ("api.openai.com", "llm.example.com"):
        names.say(host, ["127.0.0.1"])
    upstream = guarded(f"https://api.openai.com:{secure.port}/v1", ca_file=ca_file)
    assert (await call(client, upstream)).status == 200
    assert secure.requests[0].header("host") == f"api.openai.com:{secure.port}"
    other = guarded(f"https://llm.example.com:{secure.port}/v1", "byo:2", ca_file=ca_file)
    assert (await failure_of(client, other)).kind is FailureKind.CONNECT
    assert len(secure.requests) == 1


@pytest.mark.usefixtures("loopback_is_public")
@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "/v1/elsewhere"])
async def test_a_redirect_is_an_answer_and_not_followed(
    target: str, client: PooledClient, names: Names, provider: ScriptedProvider, dialled: list[Any]
) -> None:
    """Whatever it points to."""
    names.say("llm.example.com", ["127.0.0.1"])
    provider.script(Behaviour(status=302, body=b"moved", headers=(("location", target),)))
    answer = await call(client, guarded(f"http://llm.example.com:{provider.port}/v1"))
    assert answer.status == 302
    assert len(dialled) == len(provider.requests) == 1


@pytest.mark.usefixtures("loopback_is_public")
async def test_connections_are_shared_with_nobody(
    client: PooledClient, names: Names, provider: ScriptedProvider
) -> None:
    """Not between two customers, not between guarded and unguarded, though host and port are the same."""
    names.say("llm.example.com", ["127.0.0.1"])
    one = guarded(f"http://llm.example.com:{provider.port}/v1", "byo:1")
    for upstream in (one, replace(one, name="byo:2"), replace(one, public_only=False, connect_to=provider.address)):
        await (await call(client, upstream)).read(1 << 20)
    assert [seen.connection for seen in provider.requests] == [1, 2, 3]
    await (await call(client, one)).read(1 << 20)
    assert provider.requests[-1].connection == 1


async def test_the_same_name_becoming_guarded_takes_no_unguarded_connection(
    client: PooledClient, names: Names, provider: ScriptedProvider
) -> None:
    """The operator took the host off its list: what is open from before is not used."""
    names.say("llm.example.com", ["127.0.0.1"])
    open_ = Upstream("byo:1", f"http://127.0.0.1:{provider.port}/v1", OPENAI_KEY)
    await (await call(client, open_)).read(1 << 20)
    failure = await failure_of(client, replace(open_, public_only=True))
    assert failure.kind is FailureKind.CONNECT
    assert len(provider.requests) == 1


@pytest.mark.parametrize("address", INSIDE)
def test_no_socket_is_made_for_an_address_inside(address: str) -> None:
    """The last look before the connection, whoever resolved it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = (address, 443, 0, 0) if ":" in address else (address, 443)
    with pytest.raises(addresses.NotPublic):
        public_socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target))


def test_no_socket_is_made_for_a_scope() -> None:
    """A zone says which link, and a public address has none."""
    target = ("2606:4700:4700::1111", 443, 0, 2)
    with pytest.raises(addresses.NotPublic):
        public_socket((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_socket_is_made_for_a_public_address(address: str) -> None:
    """Of its family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = (address, 443, 0, 0) if ":" in address else (address, 443)
    with public_socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target)) as made:
        assert made.family is family


async def test_the_resolver_gives_numbers_of_both_families(names: Names) -> None:
    """So that nothing behind it looks a name up again."""
    names.say("llm.example.com", PUBLIC)
    found = await PublicResolver().resolve("llm.example.com", 443)
    assert [one["host"] for one in found] == PUBLIC
    assert all(one["flags"] & socket.AI_NUMERICHOST and one["port"] == 443 for one in found)
    assert [one["family"] for one in found] == [socket.AF_INET, socket.AF_INET, socket.AF_INET6]


async def test_a_name_without_addresses_is_refused(names: Names) -> None:
    """An empty answer is none that is wholly public."""
    names.say("llm.example.com", [])
    with pytest.raises(addresses.NotPublic):
        await PublicResolver().resolve("llm.example.com", 443)


@pytest.mark.usefixtures("loopback_is_public")
async def test_many_customers_cost_the_operator_no_connection(
    client: PooledClient, names: Names, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are too many pools, those of customers go, though the operator's is older."""
    monkeypatch.setattr(limits, "POOLS_MAX", 3)
    names.say("llm.example.com", ["127.0.0.1"])
    operators = Upstream("openai", f"http://127.0.0.1:{provider.port}/v1", OPENAI_KEY)
    await (await call(client, operators)).read(1 << 20)
    for number in range(6):
        url = f"http://llm.example.com:{provider.port}/v1"
        await (await call(client, guarded(url, f"byo:{number}"))).read(1 << 20)
    await (await call(client, operators)).read(1 << 20)
    assert provider.requests[-1].connection == 1
    await provider.until(lambda: provider.open_connections <= 3)


async def test_one_customer_takes_not_every_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that never answers holds a bounded number of threads."""
    waiting = asyncio.Event()
    under_way = 0

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        nonlocal under_way
        under_way += 1
        await waiting.wait()
        under_way -= 1
        return [ipaddress.ip_address("1.1.1.1")]

    monkeypatch.setattr(addresses, "resolve", resolve)
    resolver = PublicResolver()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(resolver.resolve("slow.example.com", 443)) for _ in range(20)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert under_way == LOOKUPS_AT_ONCE_MAX
        waiting.set()
    assert all(one.result()[0]["host"] == "1.1.1.1" for one in asked)
