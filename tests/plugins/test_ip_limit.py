"""One address gets what the limits say and no more, wherever it claims to come from."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins.ip_limit.plugin import IpLimitPlugin, IpLimitSettings
from proxy.client_addresses import HOPS_MAX, client_of, key_of, networks, parse
from proxy.config.schema import Bucket, Generation, Limits, ScopeLimits
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.operations import LOCAL, MODELS, PLAIN
from proxy.state import Counters
from proxy.usage import Usage
from tests.support.fakes import FakeClock, Rest, exchange, generation, origin

OPEN = ScopeLimits()


class World:
    """A plugin with its own clock and counters."""

    def __init__(self, ip: ScopeLimits, *, total_streams: int = 1_000, **settings: Any) -> None:
        self.clock = FakeClock()
        self.generation = generation(limits=limits(ip, total_streams))
        self.counters = Counters(self.clock)
        self.services: Any = SimpleNamespace(clock=self.clock, counters=self.counters, generation=self.generation)
        self.plugin = IpLimitPlugin(IpLimitSettings(**settings), self.services)

    async def send(self, peer: str = "203.0.113.7", under: Generation | None = None, **fields: Any) -> Exchange:
        seen = exchange(at=origin(peer=peer), under=under or self.generation, **fields)
        await self.plugin(seen, Rest())
        return seen

    async def refusal(self, **fields: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.send(**fields)
        return refused.value


def limits(ip: ScopeLimits, total_streams: int = 1_000) -> Limits:
    return Limits(ip, OPEN, OPEN, OPEN, total_streams)


def requests(per_minute: int = 120, burst: int = 25, seconds: int = 10) -> ScopeLimits:
    return ScopeLimits(requests=Bucket(per_minute, burst, seconds))


async def test_burst_beyond_the_limit_is_refused_with_the_exact_wait() -> None:
    """25 in 10 s pass, the 26th is told 400 ms; after them it passes, a millisecond earlier it does not."""
    world = World(requests())
    for _ in range(25):
        await world.send()
    refused = await world.refusal()
    assert (refused.code, refused.status, refused.retry_after_seconds) == ("rate_limited", 429, 0.4)
    assert "120 requests a minute, 25 in 10 s" in refused.message
    assert refused.wire_headers()["retry-after"] == "1"

    world.clock.advance(0.399)
    assert (await world.refusal()).retry_after_seconds == pytest.approx(0.001)
    world.clock.advance(0.001)
    await world.send()


async def test_refused_request_calls_nothing_further_in() -> None:
    """The rest of the chain never sees it."""
    world, rest = World(requests(1, 1)), Rest()
    await world.send()
    with pytest.raises(Refusal):
        await world.plugin(exchange(at=origin(peer="203.0.113.7"), under=world.generation), rest)

    assert rest.seen == []


async def test_other_addresses_are_not_touched() -> None:
    """One client's flood costs the next nothing."""
    world = World(requests(1, 1))
    await world.send(peer="203.0.113.7")
    await world.refusal(peer="203.0.113.7")

    await world.send(peer="203.0.113.8")


async def test_ipv6_is_counted_by_its_subscriber() -> None:
    """All of a /64 is one client; the next /64 is another; mapped IPv4 is IPv4."""
    world = World(requests(1, 1))
    await world.send(peer="2001:db8:1:2::1")
    await world.refusal(peer="2001:db8:1:2:ffff::9")
    await world.send(peer="2001:db8:1:3::1")
    await world.send(peer="203.0.113.7")
    await world.refusal(peer="::ffff:203.0.113.7")


async def test_streams_by_address_are_limited_until_one_ends() -> None:
    """The third of two is refused; any end of an exchange frees its slot."""
    world = World(ScopeLimits(streams=2))
    first = await world.send()
    await world.send()
    refused = await world.refusal()
    assert (refused.code, refused.status, refused.retry_after_seconds) == ("too_many_streams", 429, 1.0)
    await world.send(peer="203.0.113.8")

    first.finish(Finish.CLIENT_GONE)
    await world.send()
    await world.refusal()


async def test_total_of_streams_is_limited_over_all_addresses() -> None:
    """It protects the process itself, loopback included."""
    world = World(OPEN, total_streams=2, exempt_loopback=True)
    await world.send(peer="203.0.113.1")
    await world.send(peer="127.0.0.1")

    assert (await world.refusal(peer="127.0.0.1")).code == "too_many_streams"


async def test_rate_limited_request_holds_no_slot() -> None:
    """A client that goes on knocking does not fill its own slots."""
    world = World(replace(requests(60, 1, 1), streams=2))
    await world.send()
    for _ in range(10):
        assert (await world.refusal()).code == "rate_limited"

    assert world.counters.streams.in_use("ip:203.0.113.7") == 1
    assert world.counters.streams.in_use("total") == 1


async def test_request_refused_for_its_streams_is_not_counted() -> None:
    """Waiting for a slot costs no request."""
    world = World(replace(requests(60, 2, 60), streams=1))
    first = await world.send()
    for _ in range(10):
        assert (await world.refusal()).code == "too_many_streams"
    first.finish(Finish.SERVED)

    await world.send()


async def test_only_priced_exchanges_take_slots_and_probes_take_nothing() -> None:
    """Health checks and others' web pages are never refused; the list of models counts as a request."""
    world = World(replace(requests(60, 2, 60), streams=1))
    await world.send()
    for _ in range(50):
        await world.send(operation=LOCAL)
        await world.send(operation=PLAIN)
    await world.send(operation=MODELS)

    assert (await world.refusal(operation=MODELS)).code == "rate_limited"


async def test_loopback_is_limited_unless_exempt() -> None:
    """By default every address is counted."""
    limited, exempt = World(requests(1, 1)), World(requests(1, 1), exempt_loopback=True)
    await limited.send(peer="127.0.0.1")
    await limited.refusal(peer="127.0.0.1")

    for peer in ("127.0.0.1", "::1", "127.0.0.1", "::1"):
        await exempt.send(peer=peer)
    await exempt.send(peer="203.0.113.7")
    await exempt.refusal(peer="203.0.113.7")


async def test_tokens_a_minute_are_counted_when_the_exchange_ends() -> None:
    """What is used beyond the limit is a debt that the next request waits for."""
    world = World(ScopeLimits(tokens_per_minute=600))
    first = await world.send()
    first.usage = Usage(500, 400)
    first.finish(Finish.SERVED)

    refused = await world.refusal()
    assert refused.code == "rate_limited"
    assert refused.retry_after_seconds == pytest.approx(30.1)
    world.clock.advance(30.1)
    await world.send()


async def test_reload_keeps_what_was_counted() -> None:
    """A bucket that is empty under one configuration is empty under the next, and fills at its new rate."""
    world = World(requests(1, 1))
    await world.send()
    wider = generation(limits=limits(requests(10, 10)))

    refused = await world.refusal(under=wider)
    assert "10 requests a minute" in refused.message
    assert refused.retry_after_seconds == 6


async def test_header_of_an_untrusted_peer_is_ignored() -> None:
    """Nobody escapes the limit by naming another address."""
    world = World(requests(1, 1), trusted_proxies=("10.0.0.0/8",))
    await world.send(headers={"x-forwarded-for": "198.51.100.1"})

    await world.refusal(headers={"x-forwarded-for": "198.51.100.2"})


async def test_trusted_proxy_names_the_client() -> None:
    """Behind a load balancer each client has its own limit."""
    world = World(requests(1, 1), trusted_proxies=("10.0.0.0/8",))
    for client in ("198.51.100.1", "198.51.100.2"):
        await world.send(peer="10.0.0.1", headers={"x-forwarded-for": client})

    await world.refusal(peer="10.0.0.2", headers={"x-forwarded-for": "6.6.6.6, 198.51.100.1"})


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [", ".join(["6.6.6.6"] + ["10.0.0.2"] * HOPS_MAX)], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", ["198.51.100.1"], "fe80::1"),
    ],
)
def test_client_is_the_rightmost_address_that_is_not_trusted(peer: str, lines: list[str], client: str) -> None:
    """Everything left of it may have been written by the client itself."""
    assert str(client_of(peer, lines, networks(("10.0.0.0/8",)))) == client


@given(st.text(max_size=100), st.lists(st.text(max_size=60), max_size=3))
def test_any_text_for_an_address_is_counted_somewhere(peer: str, lines: list[str]) -> None:
    """Nothing a header can say raises."""
    assert key_of(client_of(peer, lines, networks(("0.0.0.0/0", "::/0"))))


@given(st.ip_addresses())
def test_any_address_is_read_back(address: Any) -> None:
    """With and without port and brackets."""
    plain = parse(str(address))
    assert plain is not None
    bracketed = f"[{address}]:80" if address.version == 6 else f"{address}:80"
    assert parse(bracketed) == plain


@pytest.mark.parametrize(
    "settings",
    [
        {"trusted_proxies": ("10.0.0.1/8",)},
        {"trusted_proxies": ("example.com",)},
        {"forwarded_header": "forwarded"},
        {"forwarded_header": "X Forwarded"},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """At start."""
    with pytest.raises(ValidationError):
        IpLimitSettings(**settings)
