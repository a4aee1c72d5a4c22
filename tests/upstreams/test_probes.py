"""Probes, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from proxy.clock import SystemClock
from proxy.upstreams.api import Probe, Upstream
from proxy.upstreams.breakers import REFUSED, CircuitBreaker, CircuitState
from proxy.upstreams.client import PooledClient
from proxy.upstreams.health import UpstreamStates
from proxy.upstreams.probes import Probes
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.provider import OPENAI_KEY, ScriptedProvider
from tests.support.fakes import Log

PROBE = Probe("/models", interval_seconds=0.02, timeout_seconds=0.2)


@dataclass(slots=True)
class Watched:
    """An upstream that is probed, with one circuit."""

    provider: ScriptedProvider
    upstream: Upstream
    probes: Probes
    breaker: CircuitBreaker
    log: Log

    def open(self) -> None:
        """Its circuit, for an hour."""
        now = SystemClock.monotonic()
        for _ in range(5):
            self.breaker.failed(self.breaker.admit(now), now, retry_after=600.0)
        assert self.breaker.state is CircuitState.OPEN

    async def until_logged(self, event: str, times: int = 1) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(10):
            while self.log.names().count(event) < times:
                await asyncio.sleep(0.005)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    with ScriptedProvider() as provider:
        clock, log, client = SystemClock(), Log(), PooledClient()
        states = UpstreamStates(clock)
        probes = Probes(client, states, clock, log)
        upstream = Upstream("a", f"{provider.url}/v1", OPENAI_KEY, probe=PROBE)
        yield Watched(provider, upstream, probes, states.candidate("a", "m").breaker, log)
        await probes.stop()
        await client.close()


async def test_healthy_upstream_may_be_tried_at_once(watched: Watched) -> None:
    """The operator's credential goes with it; the circuit is closed by a request, not by the probe."""
    watched.open()
    watched.probes.follow([watched.upstream])
    await watched.until_logged("probed")
    assert watched.breaker.state is CircuitState.OPEN
    assert watched.breaker.admit(SystemClock.monotonic()) != REFUSED
    seen = watched.provider.requests[0]
    assert (seen.method, seen.path, seen.header("authorization")) == ("GET", "/v1/models", f"Bearer {OPENAI_KEY}")


async def test_nothing_is_asked_while_all_circuits_are_closed(watched: Watched) -> None:
    """Nor while one only waits because the upstream asked for it."""
    watched.probes.follow([watched.upstream])
    now = SystemClock.monotonic()
    await asyncio.sleep(5 * PROBE.interval_seconds)
    watched.breaker.limit(watched.breaker.admit(now), now, 30.0)
    await asyncio.sleep(5 * PROBE.interval_seconds)
    assert watched.provider.requests == []


@pytest.mark.parametrize(
    "behaviour", [Behaviour(status=500), Behaviour(fault=Fault.HANG_BEFORE_HEAD), Behaviour(fault=Fault.GARBAGE)]
)
async def test_upstream_that_is_still_ill_goes_on_waiting(watched: Watched, behaviour: Behaviour) -> None:
    """Whichever way; and the probes go on."""
    watched.provider.default = behaviour
    watched.open()
    watched.probes.follow([watched.upstream])
    await watched.until_logged("probed" if behaviour.status == 500 else "probe_failed", times=2)
    assert watched.breaker.admit(SystemClock.monotonic()) == REFUSED


async def test_reload_changes_what_is_probed(watched: Watched) -> None:
    """One that is gone is asked no more, one that changed is asked as it is now."""
    watched.provider.default = Behaviour(status=500)
    watched.open()
    watched.probes.follow([watched.upstream])
    await watched.until_logged("probed")
    watched.probes.follow([replace(watched.upstream, probe=replace(PROBE, path="/health"))])
    await watched.provider.until(lambda: any(seen.path == "/v1/health" for seen in watched.provider.requests))
    watched.probes.follow([])
    await asyncio.sleep(2 * PROBE.interval_seconds)
    asked = len(watched.provider.requests)
    await asyncio.sleep(5 * PROBE.interval_seconds)
    assert len(watched.provider.requests) == asked
