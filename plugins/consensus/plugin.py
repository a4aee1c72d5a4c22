"""Several models answer one question: the panel's run stands where another model's upstream call would."""

from __future__ import annotations

from typing import Any, ClassVar

from plugins.consensus.calls import ChainCalls
from plugins.consensus.questions import question_of
from plugins.consensus.rendering import wire_of
from plugins.consensus.run import Run
from plugins.consensus.stream import RunStream
from plugins.consensus.wires import Meta, Wire
from proxy.config.schema import Generation
from proxy.consensus.api import Event, RunFailed
from proxy.consensus.engine import Engine
from proxy.consensus.settings import Consensus
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response, WhenLeft
from proxy.headers import Headers
from proxy.operations import ORCHESTRATE
from proxy.panels import mode_of, seated_modes
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage


class ConsensusPlugin(Plugin[PluginSettings]):
    """Establishes `route`, `usage` and `charge` of what a panel answers. Stands before `routing`, through which each of
    its calls goes.

    A client that leaves ends the run: every call is cancelled. Where a proof of payment pays, or a webhook waits for
    the answer, it goes on: the answer is bought, or somebody else is to have it.
    """

    name = "consensus"
    stage = Stage.ROUTE
    Settings: ClassVar[type[PluginSettings]] = PluginSettings
    requires = frozenset({"identity", "call", "model", "quote", "hold"})

    def __init__(self, settings: PluginSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._webhooks: Any = services.webhooks
        self.follow(services.generation)

    def follow(self, generation: Generation) -> None:
        """A changed policies/consensus.yaml has an engine of its own."""
        self._engine = None if generation.consensus is None else Engine(generation.consensus)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        model = exchange.model
        if model is None or model.panel is None:
            return await call_next(exchange)
        run, meta = self._run(exchange, call_next)
        run.admit()
        stays = await self._has_webhook(exchange) or exchange.payment_proof is not None
        exchange.when_left = WhenLeft.STAY if stays else WhenLeft.CANCEL
        exchange.on_finish(run.close)
        wire = wire_of(exchange, meta, self.services.clock)
        if exchange.call is not None and exchange.call.stream:
            return self._streamed(exchange, run, wire, meta)
        return await self._whole(exchange, run, wire, meta)

    def _run(self, exchange: Exchange, call_next: Next) -> tuple[Run, Meta]:
        call, model, quote, consensus = exchange.call, exchange.model, exchange.quote, exchange.generation.consensus
        if call is None or model is None or model.panel is None or quote is None or consensus is None:
            raise Refusal("internal_error", "This priced path is closed: nothing in the chain says what is asked.")
        mode = mode_of(consensus, model.name)
        engine = self._engine_of(consensus)
        question = question_of(call, quote.output_tokens)
        meta = Meta(
            request_id=exchange.request_id,
            created=self.services.clock.now_ms() // 1000,
            model=model.name,
            mode=mode,
            conversation_id=call.document.get("conversation_id") if exchange.operation is ORCHESTRATE else None,
            wants_usage=call.wants_usage,
            metadata=call.document.get("metadata") or {},
        )
        calls = ChainCalls(exchange, call_next)
        seated = None
        if len(quote.candidates) < len(model.candidates):
            seated = seated_modes(consensus, mode, quote.candidates)
        return Run(exchange, engine, question, mode, calls, self.services.metrics, seated), meta

    def _engine_of(self, consensus: Consensus) -> Engine:
        """The configuration's; one of its own for an exchange that began under an older one."""
        engine = self._engine
        return engine if engine is not None and engine.consensus is consensus else Engine(consensus)

    def _streamed(self, exchange: Exchange, run: Run, wire: Wire, meta: Meta) -> Response:
        stream = RunStream(exchange, run, wire, meta, self.services.log)
        exchange.streams.append(stream)
        headers = Headers({"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"})
        return Response(200, headers, stream=stream, sse=True, before_content=stream.before_content)

    async def _whole(self, exchange: Exchange, run: Run, wire: Wire, meta: Meta) -> Response:
        try:
            result = await run.run(_unwatched)
        except RunFailed as failure:
            raise failure.refusal from failure
        body = wire.whole(result, run.calls.records, run.meta(meta))
        return Response(200, Headers({"content-type": wire.content_type}), body)

    async def _has_webhook(self, exchange: Exchange) -> bool:
        """Whether the result is to go to an address as well. Raises Refusal for one that it may not go to."""
        call = exchange.call
        url = call.document.get("webhook_url") if call is not None and exchange.operation is ORCHESTRATE else None
        if url is not None:
            await self._webhooks.check(url)
        return url is not None


async def _unwatched(event: Event) -> None:
    """Nobody watches an answer that is given whole."""


PLUGIN = ConsensusPlugin
