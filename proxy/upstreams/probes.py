"""Asks an upstream whose circuit is open for its health, so that requests need not wait for the circuit's own time.

Optional, by upstream. A probe closes nothing: it lets one request try at once, and that one's outcome decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from proxy.clock import Clock
from proxy.headers import Headers
from proxy.upstreams.api import Probe, Upstream, UpstreamClient, UpstreamFailure
from proxy.upstreams.breakers import CircuitState
from proxy.upstreams.health import UpstreamStates


class Probes:
    """One sleeping task for each upstream that is to be probed. Made, started, followed and stopped by the gateway."""

    def __init__(self, client: UpstreamClient, states: UpstreamStates, clock: Clock, log: Any) -> None:
        self._client = client
        self._states = states
        self._clock = clock
        self._log = log
        self._tasks: dict[str, tuple[Upstream, asyncio.Task[None]]] = {}

    def follow(self, upstreams: Iterable[Upstream]) -> None:
        """Probe these from now on, as they are configured now: at start and after each reload."""
        wanted = {one.name: one for one in upstreams if one.probe is not None}
        for name, (known, task) in list(self._tasks.items()):
            if wanted.get(name) != known:
                task.cancel()
                del self._tasks[name]
        for name, upstream in wanted.items():
            if name not in self._tasks and upstream.probe is not None:
                watch = self._watch(upstream, upstream.probe)
                task = asyncio.get_running_loop().create_task(watch, name=f"probe-{name}")
                self._tasks[name] = (upstream, task)

    async def stop(self) -> None:
        """No more probes."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _watch(self, upstream: Upstream, probe: Probe) -> None:
        while True:
            await asyncio.sleep(probe.interval_seconds)
            open_ = [
                state.breaker
                for state in self._states.circuits_of(upstream.name)
                if state.breaker.state is CircuitState.OPEN and not state.breaker.limited
            ]
            if open_ and await self._healthy(upstream, probe):
                now = self._clock.monotonic()
                for breaker in open_:
                    breaker.allow_trial(now)

    async def _healthy(self, upstream: Upstream, probe: Probe) -> bool:
        """Whether the probe was answered with a status under 400 in time."""
        headers = Headers({"accept": "application/json", "accept-encoding": "identity", **dict(upstream.headers)})
        if (credential := upstream.credential) is not None:
            headers[upstream.credential_header] = credential
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                answer = await self._client.send(
                    upstream, method="GET", path=upstream.base_path + probe.path, headers=headers, body=None
                )
        except (UpstreamFailure, TimeoutError) as failure:
            self._log.info("probe_failed", upstream=upstream.name, detail=str(failure))
            return False
        await answer.aclose()
        self._log.info("probed", upstream=upstream.name, status=answer.status)
        return answer.status < 400
