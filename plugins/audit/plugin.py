"""One JSON line an exchange: who, what, where, tokens, cost, latency and outcome; no content unless asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from plugins.audit.record import record
from proxy.dialects import DIALECTS
from proxy.dialects.base import UsageReader
from proxy.exchange import Exchange, Finish, Response, Transform
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.telemetry.jsonl import JsonLines


class AuditSettings(PluginSettings):
    """Where the lines go, and how much is kept."""

    path: str = Field(
        default="audit.jsonl", min_length=1, description="File of the lines; relative to the state folder."
    )
    bytes_max: int = Field(
        default=64 << 20, ge=64 << 10, le=16 << 30, description="At this size the file is rotated to PATH.1."
    )
    files_max: int = Field(default=10, ge=1, le=1000, description="Rotated files that are kept.")
    content: bool = Field(default=False, description="Keep prompts and answers, too. Off: neither is written anywhere.")
    content_bytes_max: int = Field(
        default=16 << 10, ge=1, le=1 << 20, description="Of a request body, and of an answer's text, that are kept."
    )


class AuditPlugin(Plugin[AuditSettings]):
    """Writes at the very end of an exchange, after it was settled; refusals before the chain are written, too."""

    name = "audit"
    stage = Stage.OBSERVE
    Settings: ClassVar[type[PluginSettings]] = AuditSettings
    observes = frozenset({"identity", "call", "model", "hold", "route", "usage"})

    def __init__(self, settings: AuditSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._monotonic = services.clock.monotonic
        path: Path = services.generation.state / settings.path
        self._lines = JsonLines(path, settings.bytes_max, settings.files_max, services.log)

    async def start(self) -> None:
        """Open the file. Raises OSError where that is not possible: no exchange goes unrecorded."""
        await asyncio.to_thread(self._lines.start)

    async def stop(self) -> None:
        """Write what is queued."""
        await asyncio.to_thread(self._lines.close)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        if self.settings.content:
            return await self._with_content(exchange, call_next)
        exchange.on_finish(lambda reason: self._lines.write(record(exchange, reason, self._monotonic())))
        return await call_next(exchange)

    async def _with_content(self, exchange: Exchange, call_next: Next) -> Response:
        readers: list[UsageReader] = []
        exchange.on_finish(lambda reason: self._write_content(exchange, reason, readers))
        response = await call_next(exchange)
        dialect = exchange.operation.dialect
        if exchange.call is not None and dialect is not None and response.status == 200:
            reader = DIALECTS[dialect].usage_reader(stream=response.stream is not None)
            readers.append(reader)
            if response.stream is None:
                reader.feed(response.body)
            elif _redacted(exchange):
                response.transforms.append(_watching(reader))
            else:
                for piece in response.peeked:
                    reader.feed(piece)
                response.taps.append(reader.feed)
        return response

    def _write_content(self, exchange: Exchange, reason: Finish, readers: list[UsageReader]) -> None:
        line: dict[str, Any] = record(exchange, reason, self._monotonic())
        limit = self.settings.content_bytes_max
        call = None if _redacted(exchange) and not exchange.content_checked else exchange.call
        line["request"] = None if call is None else call.body[:limit].decode("utf-8", "replace")
        line["answer"] = None
        for reader in readers:
            line["answer"] = reader.output_text().encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
        self._lines.write(line)


def _redacted(exchange: Exchange) -> bool:
    """Content rules apply: what is kept is what they leave."""
    return exchange.policy is not None and bool(exchange.policy.content)


def _watching(reader: UsageReader) -> Transform:
    """Sees what goes out, in the place of what the upstream sent."""

    def watch(chunk: bytes) -> bytes:
        reader.feed(chunk)
        return chunk

    return watch


PLUGIN = AuditPlugin
