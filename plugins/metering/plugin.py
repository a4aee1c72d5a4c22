"""What each upstream attempt really used: read from the wire as it passes, or counted by ourselves."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call, UsageReader
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.pricing import tokens
from proxy.pricing.quote import Quote
from proxy.routes import Try
from proxy.usage import Usage, known


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
            exchange.on_finish(lambda _: _read_cut(exchange, tried, reader))
        call = exchange.call

        async def closing() -> None:
            await _close(exchange, call, tried, reader, count=self.settings.count)

        exchange.before_finish.append(closing)
        return response


def _read_cut(exchange: Exchange, tried: Try, reader: UsageReader) -> None:
    """A stream that was not read to its end has a usage only where the dialect's own end was seen in it.

    What was reported before is not all that it will come to: leaving early must not be a discount.
    """
    if tried.usage is None and reader.finished:
        tried.usage = reader.usage()
        if exchange.route is not None and tried is exchange.route.current:
            exchange.usage = tried.usage


async def _close(exchange: Exchange, call: Call, tried: Try, reader: UsageReader, *, count: bool) -> None:
    """The usage of an answer that ended or broke: its report, or else our own count of what was delivered.

    Where it stays unknown (the answer was given up, or the report cannot be true) the count is kept beside it, for a
    purse, which pays that.
    """
    if tried.outcome != "served" or (tried.cut and reader.finished):
        return
    if tried.usage is None and not tried.cut:
        await _report(exchange, call, tried, reader, count=count)
    if known(tried.usage) is None and exchange.hold is not None and exchange.hold.request.in_advance:
        tried.counted = await _count(exchange, call, tried, reader)


async def _report(exchange: Exchange, call: Call, tried: Try, reader: UsageReader, *, count: bool) -> None:
    reported = reader.usage()
    if reported is None:
        if count and (counted := await _count(exchange, call, tried, reader)) is not None:
            exchange.usage = tried.usage = counted
    elif count or not reported.counted:
        exchange.usage = tried.usage = _within(reported, exchange.quote) if reported.counted else reported


def _within(usage: Usage, quote: Quote | None) -> Usage:
    """An estimate of ours is never above a limit that the upstream kept to."""
    if quote is None or not quote.enforced:
        return usage
    output = min(usage.output_tokens, quote.output_tokens * quote.choices)
    return replace(usage, output_tokens=output, reasoning_tokens=min(usage.reasoning_tokens, output))


async def _count(exchange: Exchange, call: Call, tried: Try, reader: UsageReader) -> Usage | None:
    """Our own count of what came of an answer without a report; None where it cannot be counted."""
    model, quote = exchange.model, exchange.quote
    if model is None or quote is None:
        return None
    encoding = model.encoding_of(tried.candidate) or tokens.FALLBACK_ENCODING
    images = model.image_tokens_max_of(tried.candidate)
    counted_input = await tokens.count_call_async(call, encoding, image_tokens_max=images)
    counted_output = await tokens.count_async(reader.output_text(), encoding)
    if counted_input is None or counted_output is None:
        return None
    counted_output += reader.bytes_beyond
    return _within(Usage(min(counted_input, quote.input_tokens), counted_output, counted=True), quote)


PLUGIN = MeteringPlugin
