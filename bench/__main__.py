"""python -m bench [--quick] [--only PARTS] [--peers NAMES]"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bench import chain, failover, latency, memory, payment, report, requests, scale, setup, streaming, targets
from bench.gateway import Gateway
from bench.peers import PEERS
from bench.plan import FULL, QUICK, Plan
from bench.process import ROOT, BenchError
from bench.streams import CHUNK_MILLISECONDS, CHUNKS
from bench.upstream import Upstream, start_fixed, start_streaming

STATE: Final = ROOT / "var"
"""On the checkout's disk, not in a memory file system: ledgers are written here."""


ALONE: Final = {"chain": chain, "scale": scale, "failover": failover, "payment": payment}
"""Parts that no peer has a counterpart for; each starts what it needs."""


def _names(text: str, known: Iterable[str]) -> list[str]:
    chosen = [name for name in text.split(",") if name]
    if unknown := set(chosen) - set(known):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return chosen


def _terminated(number: int, _frame: FrameType | None) -> None:
    """SIGTERM unwinds like an exception, so that everything started is stopped."""
    raise SystemExit(128 + number)


class Bench:
    """One run: upstreams and gateways that live as long as the part that needs them."""

    def __init__(self, peers: list[str], plan: Plan, folder: Path) -> None:
        self._peers = peers
        self._plan = plan
        self._folder = folder
        self.complete = True
        """Whether every gateway could be started."""

    def part(self, name: str) -> dict[str, Any]:
        """Measure one part. The gateways are started afresh for it."""
        print(f"{name}:", flush=True)
        folder = self._folder / name
        folder.mkdir()
        if name in ALONE:
            return self._about({}, {}, {}) | ALONE[name].measure(folder)
        with ExitStack() as stack:
            upstream = start_streaming(folder, CHUNKS, CHUNK_MILLISECONDS) if name == "streams" else start_fixed(folder)
            stack.callback(upstream.server.stop)
            unavailable: dict[str, str] = {}
            peers = [peer for peer in self._peers if name != "memory" or peer == "tollway"]
            gateways = {
                peer: gateway
                for peer in peers
                if (gateway := self._start(peer, upstream, folder, stack, unavailable)) is not None
            }
            figures = self._measure(name, gateways, upstream, folder)
        versions = {peer: gateway.version for peer, gateway in gateways.items()}
        commands = {peer: gateway.server.command for peer, gateway in gateways.items()}
        return self._about(versions, unavailable, commands | {"upstream": upstream.server.command}) | figures

    def _about(self, versions: dict[str, str], unavailable: dict[str, str], commands: dict[str, str]) -> dict[str, Any]:
        return {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": report.commit(),
            "quick": self._plan.quick,
            "machine": report.machine(),
            "versions": versions,
            "unavailable": unavailable,
            "commands": commands,
        }

    def _start(
        self, peer: str, upstream: Upstream, folder: Path, stack: ExitStack, unavailable: dict[str, str]
    ) -> Gateway | None:
        try:
            gateway = PEERS[peer].start(upstream.port, folder, streaming=folder.name == "streams")
        except BenchError as error:
            self.complete = False
            unavailable[peer] = str(error).splitlines()[-1]
            print(f"  {peer} could not be started: {error}", flush=True)
            return None
        stack.callback(gateway.stop)
        return gateway

    def _measure(self, name: str, gateways: Mapping[str, Gateway], upstream: Upstream, folder: Path) -> dict[str, Any]:
        match name:
            case "requests":
                return requests.measure(gateways, upstream, folder, self._plan)
            case "latency":
                return latency.measure(gateways, upstream, self._plan)
            case "streams":
                return streaming.measure(gateways, upstream, self._plan)
            case _:
                return memory.measure(gateways["tollway"], folder, self._plan) if gateways else {"gateways": {}}


def main() -> int:
    """Exit status 0: everything asked for was measured, whether or not a target was missed."""
    signal.signal(signal.SIGTERM, _terminated)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Tollway and its peers, side by side.")
    parser.add_argument("--only", default=",".join(targets.PARTS), help="parts, separated by commas")
    parser.add_argument("--peers", default=",".join(PEERS), help="gateways, separated by commas")
    parser.add_argument("--quick", action="store_true", help="short rounds; written to results/quick.json")
    chosen = parser.parse_args()
    try:
        parts, peers = _names(chosen.only, targets.PARTS), _names(chosen.peers, PEERS)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    plan = QUICK if chosen.quick else FULL
    file = report.RESULTS / ("quick.json" if plan.quick else "latest.json")
    measured = report.earlier(file)
    try:
        setup.programs()
        STATE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=STATE) as name:
            bench = Bench(peers, plan, Path(name))
            for part in parts:
                measured[part] = bench.part(part)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    ordered = {part: measured[part] for part in targets.PARTS if part in measured}
    result = {"targets": targets.judge(ordered), "parts": ordered}
    report.write(file, result)
    report.show(result)
    return 0 if bench.complete else 1


if __name__ == "__main__":
    sys.exit(main())
