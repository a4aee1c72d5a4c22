"""An `Idempotency-Key`: the same request again is answered with the stored answer, and nothing runs twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import ClassVar, Final

from pydantic import Field

from plugins.idempotency.recorder import Recorder
from proxy.accounts import payer_of
from proxy.assembly import StartError
from proxy.config.schema import Generation
from proxy.consensus.settings import Consensus
from proxy.dialects import DIALECTS
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.idempotency.api import REPLAYED, Asked, Claim, Kept, asked, key_of
from proxy.idempotency.service import Once
from proxy.operations import CHAT, ORCHESTRATE
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.state_file import FileTooNew

ON_LOOP_BYTES_MAX: Final = 256 << 10
"""Bodies larger than this are digested in a thread."""
_NAMES: Final = (ORCHESTRATE.name, CHAT.name)
PIECE_BYTES: Final = 64 << 10
"""A stream that is told again comes in pieces of this size."""


class IdempotencySettings(PluginSettings):
    """How much is kept. For how long, says `idempotency_hours` of policies/consensus.yaml."""

    answer_bytes_max: int = Field(
        default=1 << 20, ge=1024, le=64 << 20, description="Larger answers are not kept: their key is free again."
    )
    caller_bytes_max: int = Field(
        default=64 << 20, ge=1024, description="Of one caller's answers together; the oldest give way."
    )


class IdempotencyPlugin(Plugin[IdempotencySettings]):
    """For what a panel answers: `/v1/orchestrate`, and chat completions of its models.

    An answer is kept as it comes from further in, so that each caller's content rules and concealment apply anew when
    it is told again. Only a 200 that came to its end is kept; whatever else becomes of a run, its key is free.
    """

    name = "idempotency"
    stage = Stage.LIMIT
    Settings: ClassVar[type[PluginSettings]] = IdempotencySettings
    requires = frozenset({"identity", "call", "model", "policy"})

    def __init__(self, settings: IdempotencySettings, services: Services) -> None:
        super().__init__(settings, services)
        self._once: Once = services.once

    async def start(self) -> None:
        """Open the file. Raises StartError."""
        self._once.answer_bytes_max = self.settings.answer_bytes_max
        self._once.scope_bytes_max = self.settings.caller_bytes_max
        self.follow(self.services.generation)
        try:
            await self._once.start()
        except (FileTooNew, sqlite3.Error, OSError) as error:
            raise StartError(f"idempotency: {error}") from error

    async def stop(self) -> None:
        """Let go of the file."""
        await self._once.stop()

    def follow(self, generation: Generation) -> None:
        """Keep what is answered from now on as long as the new configuration says."""
        consensus: Consensus | None = generation.consensus
        if consensus is not None:
            self._once.hours = consensus.idempotency_hours

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        wanted = await _asked(exchange)
        if wanted is None:
            return await call_next(exchange)
        found = await self._once.claim(wanted)
        if isinstance(found, Kept):
            return self._again(exchange, found)
        exchange.on_finish(lambda _: self._once.release(found))
        response = await call_next(exchange)
        if response.stream is not None:
            self._record(exchange, response, found)
        elif _is_whole(exchange, response):
            await self._once.keep(found, Kept(tuple(response.headers.items()), response.body))
        else:
            await self._once.free(found)
        return response

    def _record(self, exchange: Exchange, response: Response, claim: Claim) -> None:
        """Keep the stream once it has come to its end. Until then the key is claimed."""
        if not _is_good(exchange, response) or exchange.call is None:
            return
        headers = tuple(response.headers.items())

        def ended(body: bytes) -> None:
            if exchange.refusal is None:
                kept = self._once.keep(claim, Kept(headers, body, stream=True))
                keeping = asyncio.get_running_loop().create_task(kept, name="idempotency-keep")
                exchange.before_finish.append(lambda: _ended(keeping))

        reader = DIALECTS[exchange.call.dialect].usage_reader(stream=True)
        response.transforms.append(Recorder(reader, self.settings.answer_bytes_max, ended))

    def _again(self, exchange: Exchange, kept: Kept) -> Response:
        exchange.repeated = True
        self.services.metrics.repeated("idempotency")
        headers = Headers(kept.headers)
        headers[REPLAYED] = "true"
        if not kept.stream:
            return Response(200, headers, kept.body)
        return Response(200, headers, stream=_Told(kept.body), sse=True)


async def _asked(exchange: Exchange) -> Asked | None:
    """What is asked for once; None where nothing is. Raises Refusal `invalid_header`."""
    call, model, operation = exchange.call, exchange.model, exchange.operation
    if call is None or model is None or model.panel is None or operation.name not in _NAMES:
        return None
    key = key_of(exchange.request.headers)
    scope = None if key is None else payer_of(exchange)
    if key is None or scope is None:  # Whoever has not paid yet is told the price.
        return None
    # As the client sent it: the call may have a conversation's history in it by now, which grows.
    body = await exchange.request.body(operation.body_bytes_max)
    conversation = call.document.get("conversation_id") if operation.name == ORCHESTRATE.name else None
    about = conversation if isinstance(conversation, str) else ""
    if len(body) > ON_LOOP_BYTES_MAX:
        return await asyncio.to_thread(asked, scope, key, exchange.request.path, body, about=about)
    return asked(scope, key, exchange.request.path, body, about=about)


def _is_good(exchange: Exchange, response: Response) -> bool:
    return response.status == 200 and response.upgrade is None and exchange.refusal is None


def _is_whole(exchange: Exchange, response: Response) -> bool:
    return _is_good(exchange, response) and response.stream is None


async def _ended(task: asyncio.Task[bool]) -> None:
    await asyncio.wait({task})


class _Told:
    """A stream that is kept whole."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), PIECE_BYTES):
            yield self._body[start : start + PIECE_BYTES]

    async def aclose(self) -> None:
        """See ByteStream: nothing to close."""


PLUGIN = IdempotencyPlugin
