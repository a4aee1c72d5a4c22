"""Closed-loop load with wrk."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cpu import cpu_seconds
from bench.process import BenchError, tool
from bench.wire import Endpoint

CONNECTIONS: Final = 16
SETTLE_SECONDS: Final = 0.3
"""What a gateway does just after its last answer (ledger commits, logs) belongs to the requests."""
WRK_TIMEOUT_SECONDS: Final = 30
SCRIPT: Final = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk."""

    requests: int
    seconds: float
    errors: int
    """Answers of 400 and above, failed connects, reads, writes, time-outs."""
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    """Of the measured server's process tree."""

    @property
    def per_second(self) -> float:
        """Requests per second of wall time."""
        return self.requests / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds for each request."""
        return 1000 * self.cpu_seconds / max(self.requests, 1)


class Generator:
    """wrk against one endpoint; its requests are written to a file once."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self._endpoint = endpoint
        self._requests = folder / f"{endpoint.name}.requests"
        with self._requests.open("wb") as file:
            for request in endpoint.requests():
                file.write(b"%d\n%s" % (len(request), request))

    def run(self, seconds: float, pid: int, *, connections: int = CONNECTIONS) -> Load:
        """Load for at least one second; CPU is that of the tree under `pid`."""
        whole_seconds = max(round(seconds), 1)
        before = cpu_seconds(pid)
        run = subprocess.run(
            [
                tool("wrk"), "-t1", f"-c{connections}", f"-d{whole_seconds}s", f"--timeout={WRK_TIMEOUT_SECONDS}s",
                f"-s{SCRIPT}", f"http://127.0.0.1:{self._endpoint.port}/", "--", str(self._requests),
            ],
            capture_output=True, text=True, timeout=whole_seconds + 3 * WRK_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        time.sleep(SETTLE_SECONDS)
        used = cpu_seconds(pid) - before
        line = next((line for line in run.stdout.splitlines() if line.startswith("@")), None)
        if line is None:
            raise BenchError(f"wrk against {self._endpoint.name} failed: {run.stderr or run.stdout}")
        seen = json.loads(line[1:])
        return Load(
            requests=seen["requests"],
            seconds=seen["microseconds"] / 1e6,
            errors=sum(seen[kind] for kind in ("connect", "read", "write", "status", "timeout")),
            p50_ms=seen["p50_us"] / 1000,
            p99_ms=seen["p99_us"] / 1000,
            cpu_seconds=used,
        )
