"""What each upstream attempt really used: read from the wire as it passes, or counted by ourselves."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call, UsageReader
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.pricing import tokens
from proxy.pricing.usage import Usage
from proxy.routes import Try


class MeteringSettings(PluginSettings):
    """How usage is counted where an upstream reports none."""

    count: bool = Field(
        default=True, description="Count tokens ourselves where none are reported; false: the full hold is charged."
    )


class MeteringPlugin(Plugin[MeteringSettings]):
    """Establishes `usage`, and each try's own, before the hold is settled."""

    name = "metering"
    stage = Stage.METER
    Settings: ClassVar[type[PluginSettings]] = MeteringSettings
    provides = frozenset({"usage"})
    requires = frozenset({"route", "call", "model"})

    def __init__(self, settings: MeteringSettings, services: Services) -> None:
        super().__init__(settings, services)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        response = await call_next(exchange)
        if exchange.route is None or exchange.call is None:
            return response
        tried = exchange.route.current
        if tried.outcome != "served":
            return response
        reader = DIALECTS[exchange.call.dialect].usage_reader(stream=response.stream is not None)
        if response.stream is None:
            reader.feed(response.body)
            if not reader.finished:
                tried.outcome = "garbage"
                return response
            exchange.usage = tried.usage = reader.usage()
        else:
            response.taps.append(reader.feed)
            exchange.on_finish(lambda _: _read(exchange, tried, reader))
        if self.settings.count:
            call = exchange.call

            async def closing() -> None:
                await _count(exchange, call, tried, reader)

            exchange.before_finish.append(closing)
        return response


def _read(exchange: Exchange, tried: Try, reader: UsageReader) -> None:
    """The last report of the stream; what was counted stands only where there is none."""
    reported = reader.usage()
    if reported is not None:
        exchange.usage = tried.usage = reported


async def _count(exchange: Exchange, call: Call, tried: Try, reader: UsageReader) -> None:
    """Our own count of an answer that ended without a report."""
    if reader.usage() is not None or tried.usage is not None or tried.outcome in ("garbage", "error_event"):
        return
    model, quote = exchange.model, exchange.quote
    if model is None or quote is None:
        return
    encoding = model.encoding or tokens.FALLBACK_ENCODING
    counted_input = await tokens.count_call_async(call, encoding, image_tokens_max=model.image_tokens_max)
    counted_output = await tokens.count_async(reader.output_text(), encoding)
    if counted_input is None or counted_output is None:
        return
    counted_output += reader.bytes_beyond
    exchange.usage = tried.usage = Usage(
        input_tokens=min(counted_input, quote.input_tokens),
        output_tokens=min(counted_output, quote.output_tokens * quote.choices) if quote.enforced else counted_output,
        counted=True,
    )


PLUGIN = MeteringPlugin
