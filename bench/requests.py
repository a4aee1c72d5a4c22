"""Part 1, requests: CPU for each request and throughput, 16 connections, nginx behind every gateway."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import books
from bench.cpu import resident_bytes
from bench.figures import median
from bench.gateway import Gateway
from bench.load import Generator, Load
from bench.plan import Plan
from bench.upstream import Upstream


def _summary(loads: list[Load]) -> dict[str, Any]:
    return {
        "cpu_ms_per_request": round(median(load.cpu_ms for load in loads), 4),
        "requests_per_second": round(median(load.per_second for load in loads), 1),
        "p50_ms": round(median(load.p50_ms for load in loads), 3),
        "p99_ms": round(median(load.p99_ms for load in loads), 3),
        "errors": sum(load.errors for load in loads),
        "rounds": [
            {
                "requests": load.requests,
                "seconds": round(load.seconds, 3),
                "cpu_seconds": round(load.cpu_seconds, 2),
                "cpu_ms_per_request": round(load.cpu_ms, 4),
                "p50_ms": load.p50_ms,
                "p99_ms": load.p99_ms,
                "errors": load.errors,
            }
            for load in loads
        ],
    }


def measure(gateways: Mapping[str, Gateway], upstream: Upstream, folder: Path, plan: Plan) -> dict[str, Any]:
    """Each gateway in turn, `plan.rounds` times over, beginning with another one each time; and nginx alone."""
    generators = {name: Generator(gateway.endpoint, folder) for name, gateway in gateways.items()}
    direct = Generator(upstream.endpoint, folder)
    loads: dict[str, list[Load]] = {name: [] for name in gateways}
    answered = dict.fromkeys(gateways, 0)
    for name, gateway in gateways.items():
        answered[name] += generators[name].run(plan.warm_seconds, gateway.pid).requests
    order = list(gateways)
    for turn in range(plan.rounds):
        shift = turn % max(len(order), 1)
        for name in order[shift:] + order[:shift]:
            load = generators[name].run(plan.load_seconds, gateways[name].pid)
            loads[name].append(load)
            answered[name] += load.requests
            print(
                f"  round {turn + 1} {name:9} {load.cpu_ms:7.3f} ms CPU/request {load.per_second:8.0f} requests/s"
                f" {load.errors} errors",
                flush=True,
            )
    return {
        "direct": _summary([direct.run(plan.warm_seconds, upstream.server.pid)]),
        "gateways": {
            name: {
                **_summary(loads[name]),
                "resident_mb": round(resident_bytes(gateway.pid) / 1e6, 1),
                **books.check(gateway, answered[name]),
            }
            for name, gateway in gateways.items()
        },
    }
