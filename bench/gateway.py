"""A started gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.process import Server
from bench.wire import Endpoint


@dataclass(frozen=True, slots=True)
class Gateway:
    """One worker, ready; `endpoint` reaches the upstream it was started with."""

    name: str
    version: str
    server: Server
    endpoint: Endpoint
    database: Path | None = None
    """Tollway's ledger."""
    admin_port: int = 0
    """Of Tollway's admin listener."""

    @property
    def pid(self) -> int:
        """Root of its process tree."""
        return self.server.pid

    def stop(self) -> None:
        """End it and everything it started."""
        self.server.stop()
