"""Part 2, latency: what a gateway adds to a request when there is no other, by one keep-alive connection each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any, Final

from bench.figures import percentile
from bench.gateway import Gateway
from bench.plan import Plan
from bench.process import BenchError
from bench.upstream import Upstream
from bench.wire import Connection, Endpoint, numbered

BLOCK_REQUESTS: Final = 50
WARM_REQUESTS: Final = 100


class _Client:
    """One connection, and the milliseconds each request on it took."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._name = endpoint.name
        self._requests = map(numbered, itertools.cycle(endpoint.requests()), itertools.count(1))
        self._connection = Connection(endpoint.port)
        self.block(WARM_REQUESTS)
        self.samples: list[float] = []

    def block(self, size: int) -> list[float]:
        """Ask `size` times, one after the other."""
        samples = []
        for _ in range(size):
            request = next(self._requests)
            begun = time.perf_counter_ns()
            status, _ = self._connection.ask(request)
            samples.append((time.perf_counter_ns() - begun) / 1e6)
            if status != 200:
                raise BenchError(f"{self._name} answered {status}")
        return samples

    def close(self) -> None:
        self._connection.close()


def _pair(gateway: Gateway, upstream: Upstream, count: int) -> dict[str, Any]:
    """`count` requests each way, in alternating blocks, so that both see the same moods of the machine."""
    direct, via = _Client(upstream.endpoint), _Client(gateway.endpoint)
    try:
        for _ in range(count // BLOCK_REQUESTS):
            direct.samples += direct.block(BLOCK_REQUESTS)
            via.samples += via.block(BLOCK_REQUESTS)
    finally:
        direct.close()
        via.close()
    seen = {
        f"{name}_p{percent}_ms": round(percentile(client.samples, percent), 3)
        for name, client in (("direct", direct), ("via", via))
        for percent in (50, 90, 99)
    }
    added = {
        f"added_p{percent}_ms": round(seen[f"via_p{percent}_ms"] - seen[f"direct_p{percent}_ms"], 3)
        for percent in (50, 90, 99)
    }
    return {"requests": len(via.samples), **added, **seen}


def measure(gateways: Mapping[str, Gateway], upstream: Upstream, plan: Plan) -> dict[str, Any]:
    """Added milliseconds by gateway: the difference of the two distributions' percentiles."""
    figures = {}
    for name, gateway in gateways.items():
        count = plan.latency_requests_slow if name == "litellm" else plan.latency_requests
        figures[name] = _pair(gateway, upstream, count)
        print(
            f"  {name:9} p50 +{figures[name]['added_p50_ms']:.2f} ms, p99 +{figures[name]['added_p99_ms']:.2f} ms",
            flush=True,
        )
    return {"gateways": figures}
