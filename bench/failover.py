"""Part 7, failover: a lane whose cheapest upstream is killed under load, and comes back."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import tollway
from bench.upstream import Upstream, start_fixed
from bench.wire import Endpoint, numbered

RATE: Final = 200
"""Requests a second, sent when they are due, whatever became of the ones before."""
ALIVE_SECONDS: Final = 3.0
DEAD_SECONDS: Final = 5.0
BACK_SECONDS: Final = 8.0
OPEN_SECONDS: Final = 4.0
"""In place of the 60 s that are shipped, so that the recovery falls into the run."""
POLL_SECONDS: Final = 0.02
CHEAP: Final = "bench-cheap"
DEAR: Final = "bench-dear"
LANE: Final = "bench-lane"


@dataclass(slots=True)
class _Seen:
    """What the run has come to so far."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    states: list[tuple[float, str, int]] = field(default_factory=list)
    """(moment, state of the cheapest upstream's circuit, how often it has opened)."""


class _Connections:
    """Keep-alive connections, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes) -> int:
        """The status of the answer, its body read. Raises OSError, EOFError where the connection is cut."""
        connection = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
        self._idle.append(connection)
        return int(head[9:12])

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def _one(connections: _Connections, request: bytes, seen: _Seen) -> None:
    try:
        status = await connections.ask(request)
    except (OSError, EOFError) as error:
        seen.failed.append(type(error).__name__)
        return
    if status != 200:
        seen.failed.append(str(status))


async def _load(endpoint: Endpoint, seconds: float, seen: _Seen) -> None:
    """RATE requests a second for so long; returns when the last is answered."""
    connections = _Connections(endpoint.port)
    requests = endpoint.requests()
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while (due := seen.sent / RATE) < seconds:
            await asyncio.sleep(max(0.0, begun + due - time.monotonic()))
            seen.sent += 1
            group.create_task(_one(connections, numbered(requests[seen.sent % len(requests)], seen.sent), seen))
    connections.close()


def _circuit(admin: int) -> tuple[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/upstreams", timeout=5) as answer:
        circuits = json.load(answer)["upstreams"][CHEAP]["circuits"]
    return (circuits[0]["state"], circuits[0]["openings"]) if circuits else ("closed", 0)


@asynccontextmanager
async def _watched(admin: int, seen: _Seen) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            with suppress(OSError):
                seen.states.append((time.monotonic(), *await asyncio.to_thread(_circuit, admin)))
            await asyncio.sleep(POLL_SECONDS)

    watching = asyncio.get_running_loop().create_task(watch(), name="watch")
    try:
        yield
    finally:
        watching.cancel()


async def _run(endpoint: Endpoint, admin: int, cheap: Upstream, folder: Path, stack: ExitStack) -> dict[str, Any]:
    seen = _Seen()
    async with _watched(admin, seen):
        seconds = ALIVE_SECONDS + DEAD_SECONDS + BACK_SECONDS
        loading = asyncio.get_running_loop().create_task(_load(endpoint, seconds, seen), name="load")
        await asyncio.sleep(ALIVE_SECONDS)
        await asyncio.to_thread(cheap.server.kill)
        killed = time.monotonic()
        await asyncio.sleep(DEAD_SECONDS)
        again = await asyncio.to_thread(start_fixed, folder, name="cheap-again", port=cheap.port)
        stack.callback(again.server.stop)
        back = time.monotonic()
        await loading
    opened = next((at for at, state, _ in seen.states if at > killed and state != "closed"), None)
    closed = next((at for at, state, _ in seen.states if at > back and state == "closed"), None)
    before = [openings for at, _, openings in seen.states if at <= back]
    after = [openings for at, _, openings in seen.states if at > back]
    trials = None if closed is None or not before else after[-1] - before[-1] + 1
    return {
        "requests": seen.sent,
        "errors": len(seen.failed),
        "failures": sorted(set(seen.failed)),
        "opened_ms": None if opened is None else round(1000 * (opened - killed)),
        "closed_after_return_ms": None if closed is None else round(1000 * (closed - back)),
        "trials_after_return": trials,
    }


def _lane(cheap: int, dear: int) -> tollway.Change:
    """A lane of two; the chain is the shipped one, but for how long a circuit stays open."""

    def change(config: dict[str, Any], models: dict[str, Any]) -> None:
        config["upstreams"][CHEAP] = {"base_url": f"http://127.0.0.1:{cheap}/v1", "key": "sk-bench"}
        config["upstreams"][DEAR] = {"base_url": f"http://127.0.0.1:{dear}/v1", "key": "sk-bench"}
        config["chain"] = [
            {"routing": {"circuit_open_seconds": OPEN_SECONDS}} if link == "routing" else link
            for link in config["chain"]
        ]
        member = {"context": 128_000, "output_max": 16_384}
        models["member-cheap"] = {"candidates": [CHEAP], "price": {"input": 0.1, "output": 0.4}, **member}
        models["member-dear"] = {"candidates": [DEAR], "price": {"input": 1, "output": 4}, **member}
        models[LANE] = {"lane": ["member-cheap", "member-dear"], "price": {"input": 1, "output": 4}, "sticky": False}

    return change


def measure(folder: Path) -> dict[str, Any]:
    """Requests, failures, and how soon the circuit opened and closed."""
    with ExitStack() as stack:
        cheap = start_fixed(folder, name="cheap")
        stack.callback(cheap.server.stop)
        dear = start_fixed(folder, name="dear")
        stack.callback(dear.server.stop)
        gateway = tollway.start(dear.port, folder, streaming=False, change=_lane(cheap.port, dear.port))
        stack.callback(gateway.stop)
        endpoint = Endpoint("tollway", gateway.endpoint.port, LANE, gateway.endpoint.headers)
        figures = asyncio.run(_run(endpoint, gateway.admin_port, cheap, folder, stack))
    print(f"  {figures}", flush=True)
    return {"gateways": {"tollway": figures}}
