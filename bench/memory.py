"""Part 4, memory: resident size of a freshly started gateway as requests go through it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from bench import books
from bench.cpu import resident_bytes
from bench.gateway import Gateway
from bench.load import Generator
from bench.plan import Plan
from bench.process import BenchError

STEP_SECONDS: Final = 2
REST_SECONDS: Final = 1
STEPS_MAX: Final = 1000


def measure(gateway: Gateway, folder: Path, plan: Plan) -> dict[str, Any]:
    """Resident megabytes at start, after the first and after the last count of requests, and on the way."""
    generator = Generator(gateway.endpoint, folder)
    series = [(0, round(resident_bytes(gateway.pid) / 1e6, 1))]
    sent = errors = 0
    first: float | None = None
    for _ in range(STEPS_MAX):
        load = generator.run(STEP_SECONDS, gateway.pid)
        sent += load.requests
        errors += load.errors
        time.sleep(REST_SECONDS)
        megabytes = round(resident_bytes(gateway.pid) / 1e6, 1)
        series.append((sent, megabytes))
        if first is None and sent >= plan.memory_first_requests:
            first = megabytes
        if sent >= plan.memory_last_requests:
            break
    if first is None or sent < plan.memory_last_requests:
        raise BenchError(f"{gateway.name} took only {sent} requests in {STEPS_MAX} steps")
    last = series[-1][1]
    print(f"  {gateway.name} {series[0][1]} MB at start, {first} MB, then {last} MB after {sent} requests", flush=True)
    return {
        "gateways": {
            gateway.name: {
                "start_mb": series[0][1],
                "first_mb": first,
                "last_mb": last,
                "growth_percent": round(100 * (last - first) / first, 2),
                "requests": sent,
                "errors": errors,
                **books.check(gateway, sent),
                "series": series,
            }
        }
    }
