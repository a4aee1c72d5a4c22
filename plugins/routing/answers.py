"""From an upstream's answer to ours: wait for content, keep back what only we asked for, map failures."""

from __future__ import annotations

import re
from typing import Final

from proxy.dialects import DIALECTS
from proxy.dialects.sse import EventFramer, EventTooLarge
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.routes import Try
from proxy.upstreams.api import UpstreamFailure

_NAMES: Final = re.compile(rb'"(?:type|code)"\s*:\s*"([\w.-]{1,64})"')

RETRY_AFTER_SECONDS: Final = 5
"""Told where an upstream limits us and does not say for how long."""
_SECONDS: Final = re.compile(r"[0-9]{1,6}")


async def first_content(exchange: Exchange, response: Response, tried: Try, peek_bytes_max: int) -> Response:
    """Pull until the first content event, so that an error in its place can still become another attempt.

    For who pays by the request it must have something of the answer in it: then the payment is burnt. Sets
    `tried.outcome` to a failure where the stream opens with an error, ends or breaks before any content.
    """
    dialect = DIALECTS[exchange.operation.dialect or ""]
    content = dialect.is_content_event if exchange.presented is None else dialect.says_something
    framer = EventFramer()
    size = 0
    try:
        while size <= peek_bytes_max:
            chunk = await response.pull()
            if not chunk:
                tried.outcome = "garbage"
                break
            size += len(chunk)
            response.peeked.append(chunk)
            for event in framer.feed(chunk):
                if dialect.is_error_event(event):
                    tried.outcome, tried.detail = "error_event", _named(event)
                    break
                if content(event):
                    return response
            if tried.outcome != "served":
                break
        else:
            tried.outcome = "garbage"
    except UpstreamFailure as failure:
        tried.outcome, tried.detail = failure.kind.value, failure.detail
    except EventTooLarge as failure:
        tried.outcome, tried.detail = "garbage", str(failure)
    if response.stream is not None:
        await response.stream.aclose()
    return Response(502, response.headers.copy())


def _named(event: bytes) -> str:
    """Type and code of an error event, for the log. Its message may quote the prompt, and is not kept."""
    return ", ".join(dict.fromkeys(word.decode() for word in _NAMES.findall(event)))


class _Withholder:
    """Drops the events that exist only because we asked for the usage; everything else passes byte for byte.

    A stream with an event too large to hold passes unchanged from there on.
    """

    __slots__ = ("_dialect", "_framer", "_open")

    def __init__(self, dialect: str) -> None:
        self._dialect = DIALECTS[dialect]
        self._framer = EventFramer()
        self._open = False

    def __call__(self, chunk: bytes) -> bytes:
        if self._open:
            return chunk
        if not chunk:
            return self._framer.rest()
        try:
            events = self._framer.feed(chunk)
        except EventTooLarge as oversized:
            self._open = True
            return b"".join(oversized.events) + self._framer.rest()
        kept = [event for event in events if b'"usage"' not in event or not self._dialect.withholds(event)]
        return kept[0] if len(kept) == 1 else b"".join(kept)


def withhold_usage(response: Response, dialect: str) -> None:
    """For a client that did not ask for the usage of its stream."""
    response.transforms.append(_Withholder(dialect))


def asked_seconds(response: Response) -> int | None:
    """The upstream's Retry-After where it is a number of seconds that can be meant; None for anything else."""
    asked = response.headers.get("retry-after", "")
    return int(asked) if _SECONDS.fullmatch(asked) else None


def _told_seconds(response: Response) -> int:
    asked = asked_seconds(response)
    return RETRY_AFTER_SECONDS if asked is None else asked


def exhausted(exchange: Exchange, response: Response, tried: Try) -> Refusal:
    """The answer once every attempt failed; the upstream's own words stay in our log."""
    count = len(exchange.route.tries) if exchange.route is not None else 1
    times = "" if count == 1 else f" after {count} attempts"
    if tried.outcome == "status" and response.status == 429:
        return Refusal(
            "rate_limited",
            f"The upstream is rate limiting{times}. Wait, then try again.",
            retry_after_seconds=_told_seconds(response),
        )
    if tried.outcome == "status" and response.status in (401, 403):
        return Refusal(
            "upstream_error",
            "The upstream refused this proxy's own credential. The operator must check its key.",
        )
    if tried.outcome in ("first_byte_timeout", "idle_timeout", "total_timeout"):
        return Refusal("upstream_timeout", f"The upstream did not answer in time{times}. Try again later.")
    if tried.outcome == "too_large":
        return Refusal(
            "upstream_error", "The answer is too large to be passed on whole. Ask for a stream, or for less."
        )
    if tried.outcome == "busy":
        return Refusal(
            "upstream_unavailable",
            f"All connections to the upstream are in use{times}. Try again in a moment.",
            retry_after_seconds=1,
        )
    if tried.outcome == "connect_failed":
        return Refusal(
            "upstream_unavailable", f"The upstream cannot be reached{times}. Try again.", retry_after_seconds=1
        )
    if tried.outcome == "status" and response.status == 503:
        return Refusal(
            "upstream_unavailable",
            f"The upstream is overloaded{times}. Try again.",
            retry_after_seconds=_told_seconds(response),
        )
    if tried.outcome == "status":
        return Refusal("upstream_error", f"The upstream answered {response.status}{times}. Try again later.")
    return Refusal("upstream_error", f"The upstream's answer could not be used ({tried.outcome}){times}. Try again.")
